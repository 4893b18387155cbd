from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.policy import Prices, TaskRoutingPolicy

share = st.floats(0, 1)
amount = st.floats(0, 1e9)


@given(st.tuples(share, share, share, share))
def test_weights_sum_to_one_and_keep_their_order(raw: tuple[float, ...]) -> None:
    names = ("privacy_weight", "latency_weight", "cost_weight", "complexity_weight")
    if sum(raw) <= 0:
        with pytest.raises(ValidationError, match="set at least one"):
            TaskRoutingPolicy.model_validate(dict(zip(names, raw, strict=True)))
        return
    policy = TaskRoutingPolicy.model_validate(dict(zip(names, raw, strict=True)))
    assert sum(policy.weights) == pytest.approx(1)
    assert sorted(policy.weights) == [weight for _, weight in sorted(zip(raw, policy.weights, strict=True))]
    assert TaskRoutingPolicy.model_validate_json(policy.model_dump_json()) == policy


def test_the_defaults_are_those_of_the_design() -> None:
    policy = TaskRoutingPolicy()
    assert policy.weights == pytest.approx((0.3, 0.3, 0.2, 0.2))
    assert (policy.latency_threshold_ms, policy.confidence_threshold, policy.edge_model_max_mb) == (50, 0.85, 100)
    assert (policy.edge_preference, policy.cloud_preference) == (0.7, 0.3)


@pytest.mark.parametrize(
    "fields",
    [
        {"privacy_weight": -0.1},
        {"privacy_weight": 1.1},
        {"latency_threshold_ms": 0},
        {"confidence_threshold": 2},
        {"cost_budget": 0},
        {"cost_budget": float("inf")},
        {"cost_weight": float("nan")},
        {"pinned": "fastest"},
        {"prices": {"per_message": -1}},
        {"privacy_wieght": 0.3},
    ],
)
def test_a_setting_out_of_range_or_misspelt_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        TaskRoutingPolicy.model_validate(fields)


def test_thresholds_that_cross_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"cloud_preference 0.8 is above edge_preference 0.7"):
        TaskRoutingPolicy(cloud_preference=0.8)


@given(amount, amount, st.integers(0, 1000), amount)
def test_cost_never_falls_when_more_is_used(cloud_ms: float, size: float, messages: int, more: float) -> None:
    prices = Prices()
    base = prices.cost(cloud_ms=cloud_ms, bytes_total=size, messages=messages)
    assert 0 <= base <= prices.cost(cloud_ms=cloud_ms + more, bytes_total=size + more, messages=messages + 1)


def test_an_hour_a_megabyte_and_a_million_messages_cost_what_the_docstring_says() -> None:
    assert Prices().cost(cloud_ms=3_600_000, bytes_total=0, messages=0) == pytest.approx(1.0)
    assert Prices().cost(cloud_ms=0, bytes_total=1e6, messages=0) == pytest.approx(0.10)
    assert Prices().cost(cloud_ms=0, bytes_total=0, messages=1_000_000) == pytest.approx(1.0)
