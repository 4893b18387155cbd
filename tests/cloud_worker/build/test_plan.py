"""The planner on a profile small enough to plan by hand."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cloud_worker.build.measure.profile_file import SplitProfile
from cloud_worker.build.plan.candidates import Stages
from cloud_worker.build.plan.ranking import _FIGURES, Constraints, Objective, Plan, Ranked, plan
from cloud_worker.build.plan.rows import plan_json, row_of, split_of, verdict
from schemas.errors import BadInputError, ConfigError, PlanError
from schemas.policy import Prices, Route
from tests.cloud_worker.build.plan_profiles import ROUND, tiny, tiny_profile


def planned(constraints: Constraints | None = None, objective: Objective | None = None) -> Plan:
    return plan(tiny_profile(), ROUND, Prices(), objective or Objective(), constraints or Constraints())


def found(made: Plan, cut: int | None, codec: str | None) -> Ranked:
    return next(
        each
        for each in made.ranked
        if each.candidate.site.cut == cut and (each.candidate.point.codec if each.candidate.point else None) == codec
    )


def same(stages: Stages, *expected: float) -> bool:
    return list(stages) == pytest.approx(list(expected))


def test_the_stages_of_every_candidate() -> None:
    made = planned()
    cloud, cut, edge = found(made, 0, "input"), found(made, 1, "transform"), found(made, None, None)
    assert same(cloud.candidate.p50, 0, 1, 5 + 8, 2 + 20, 5.042)
    assert same(cloud.candidate.p95, 0, 1, 5 + 10, 2 + 30, 5.042)
    assert same(cut.candidate.p50, 6, 0.5, 5 + 1, 0.5 + 10, 5.042)
    assert same(cut.candidate.p95, 9, 0.5, 5 + 2, 0.5 + 12, 5.042)
    assert same(edge.candidate.p50, 60, 0, 0, 0, 0)
    assert same(edge.candidate.p95, 70, 0, 0, 0, 0)
    assert [each.candidate.mean_ms for each in (cloud, cut, edge)] == pytest.approx([41.042, 28.042, 60])


def test_bytes_cost_and_score_of_every_candidate() -> None:
    made = planned()
    cloud, cut, edge = found(made, 0, "input"), found(made, 1, "transform"), found(made, None, None)
    both = (cloud.candidate, cut.candidate, edge.candidate)
    assert [each.bytes_mean for each in both] == [1042, 167, 0]
    assert [each.bytes_p95 for each in both] == [1292, 292, 0]
    assert [each.frame_bytes_p95 for each in both] == [1250, 250, 0]
    dollars = [22 / 3600 + 0.1042 + 0.002, 10.5 / 3600 + 0.0167 + 0.002, 0]
    assert [each.cost_per_1000 for each in both] == pytest.approx(dollars)
    assert cloud.score == pytest.approx(0.41042 + 10 * dollars[0] + 0.1)
    assert cut.score == pytest.approx(0.28042 + 10 * dollars[1] + 0.5)
    assert edge.score == pytest.approx(0.6)


def test_loss_is_shared_by_the_ways_up_and_down_by_their_segments() -> None:
    lossy = plan(tiny_profile(), ROUND.model_copy(update={"loss": 0.1}))
    cut = found(lossy, 1, "transform").candidate
    # two segments: 1 - 0.9^2 are lost at first, over 5 %; 1 - 0.99^2 again, under 5 %
    assert same(cut.p95, 9, 0.5, 5 + 2 + 105, 0.5 + 12, 5.042 + 105)
    assert same(cut.p50, 6, 0.5, 5 + 1, 0.5 + 10, 5.042)
    twice = sum(2.0**k * (1 - (1 - 0.1 ** (k + 1)) ** 2) for k in range(15))
    assert cut.mean_ms == pytest.approx(28.042 + 210 * twice)


def test_a_mean_above_the_95th_percentile_counts_for_both() -> None:
    profile = tiny()
    profile["cuts"][0]["points"][0].update(bytes_mean=200, bytes_p95=100)  # a few frames are very large
    cut = found(plan(SplitProfile.model_validate(profile), ROUND), 1, "transform").candidate
    assert cut.bytes_mean == cut.bytes_p95 == 313


@pytest.mark.parametrize(
    ("constraints", "objective", "best"),
    [
        ({}, {}, "whole model"),
        ({"max_edge_macs_share": 0.5}, {}, "cut 1 (block.1) through affine"),
        ({"max_edge_macs_share": 0.5, "max_bytes_p95": 300}, {"quality": 0}, "cut 1 (block.1) through transform"),
        ({"max_edge_ms_p95": 9.4}, {}, "cut 0 (input) through input quality=80"),
        ({"max_edge_ms_p95": 9.5}, {"quality": 0}, "cut 1 (block.1) through transform"),
        ({"max_latency_p95_ms": 40}, {}, "cut 1 (block.1) through affine"),
        ({"max_kl_nats": 0.01, "max_latency_p95_ms": 60}, {}, "cut 0 (input) through input quality=80"),
        ({"max_ssim": 0.3}, {"edge_macs": 5}, "cut 1 (block.1) through transform"),
        ({"max_ssim": 0.2}, {"edge_macs": 5}, "whole model"),
        ({"max_cost_per_1000": 0.01}, {}, "whole model"),
        ({"max_frame_bytes": 1000, "max_edge_macs_share": 0.9}, {"quality": 100}, "cut 1 (block.1) through affine"),
        ({}, {"latency": 0, "quality": 0, "cost": 0, "edge_macs": 1}, "cut 0 (input) through input quality=80"),
        ({}, {"latency": 0, "quality": 0, "cost": 0, "bytes": 1}, "whole model"),
    ],
)
def test_constraints_and_weights_choose(constraints: dict[str, Any], objective: dict[str, Any], best: str) -> None:
    assert str(planned(Constraints(**constraints), Objective(**objective)).best.candidate) == best


def test_every_candidate_is_ranked_and_says_what_it_misses() -> None:
    made = planned(Constraints(max_latency_p95_ms=40, max_ssim=0.5))
    assert [str(each.candidate) for each in made.ranked] == [
        "cut 1 (block.1) through transform",
        "whole model",
        "cut 1 (block.1) through affine",
        "cut 0 (input) through input quality=80",
    ]
    assert [[miss.constraint for miss in each.misses] for each in made.ranked] == [
        [],
        ["max_latency_p95_ms"],
        ["max_ssim"],
        ["max_latency_p95_ms", "max_ssim"],
    ]
    assert str(made.ranked[1].misses[0]) == "max_latency_p95_ms is 40, it has 70, 30 over"
    assert str(made.ranked[2].misses[0]) == "max_ssim is 0.5, which was not measured"


def test_the_best_of_each_cut_stands_from_the_cloud_to_the_edge() -> None:
    made = planned(Constraints(max_edge_macs_share=0.5))
    assert [each.candidate.site.cut for each in made.by_cut()] == [0, 1, None]
    assert [split_of(each.candidate) for each in made.by_cut()] == ["cloud only", "early", "edge only"]
    assert made.best_of(Route.EDGE_ONLY).misses[0].constraint == "max_edge_macs_share"
    assert verdict(made).startswith("best: cut 1 (block.1) through affine, ")
    assert "cloud only 41.0 ms" in verdict(made)
    assert "edge only 60.0 ms" in verdict(made)


def test_a_profile_without_cuts_has_the_two_extremes() -> None:
    made = plan(SplitProfile.model_validate({**tiny(), "cuts": []}), ROUND)
    assert {each.candidate.site.route for each in made.ranked} == {Route.CLOUD_ONLY, Route.EDGE_ONLY}
    with pytest.raises(KeyError):
        made.best_of(Route.HYBRID_SPLIT)


def test_accuracy_counts_where_divergence_is_not_measured_throughout() -> None:
    profile = tiny()
    for point, accuracy in zip(
        [*profile["cloud_only"]["points"], *profile["cuts"][0]["points"]], (0.9, 0.87, 0.89), strict=True
    ):
        point["quality"] = {"accuracy": accuracy}
    made = plan(SplitProfile.model_validate(profile), ROUND, objective=Objective(latency=0, cost=0))
    assert [found(made, 1, codec).score for codec in ("transform", "affine")] == pytest.approx([3, 1])
    strict = plan(SplitProfile.model_validate(profile), ROUND, constraints=Constraints(min_accuracy=0.89))
    assert [str(miss) for miss in found(strict, 1, "transform").misses] == [
        "min_accuracy is 0.89, it has 0.87, 0.02 under"
    ]
    assert found(strict, 1, "affine").admissible


def test_when_nothing_is_admissible_the_nearest_is_named_with_what_it_misses() -> None:
    with pytest.raises(PlanError) as caught:
        planned(Constraints(max_latency_p95_ms=30, max_edge_macs_share=0.5))
    error = caught.value
    assert isinstance(error, BadInputError)
    assert (error.constraint, error.limit, error.candidate) == (
        "max_latency_p95_ms",
        30,
        "cut 1 (block.1) through affine",
    )
    assert error.value == pytest.approx(34.042)
    assert "max_latency_p95_ms is 30, it has 34.04, 4.042 over; relax that" in str(error)


def test_when_nothing_was_measured_it_says_so() -> None:
    profile = tiny()
    profile["edge_only"]["quality"] = {"kl_nats": 0}
    with pytest.raises(PlanError, match=r"min_accuracy is 0\.8, which was not measured") as caught:
        plan(SplitProfile.model_validate(profile), ROUND, constraints=Constraints(min_accuracy=0.8))
    assert caught.value.value is None


def test_a_limit_on_ssim_needs_a_profile_that_has_some() -> None:
    profile = tiny()
    profile["cuts"][0]["points"][0]["leakage"] = None
    with pytest.raises(ConfigError, match="the profile of tiny cannot be held to it: its leakage was not measured"):
        plan(SplitProfile.model_validate(profile), ROUND, constraints=Constraints(max_ssim=1))


@pytest.mark.parametrize(("samples", "note"), [(99, "leakage of 99 samples bounds nothing"), (100, "")])
def test_leakage_of_few_samples_says_that_it_bounds_nothing(samples: int, note: str) -> None:
    profile = tiny()
    profile["cuts"][0]["points"][0]["leakage"] = {"ssim": 0.3, "distance_correlation": 0.62, "samples": samples}
    made = plan(SplitProfile.model_validate(profile), ROUND)
    row = row_of(found(made, 1, "transform"))
    assert (row.ssim, row.correlation, row.note) == ("0.30", "0.62", note)
    shipped = next(each for each in plan_json(made)["candidates"] if each["codec"] == "transform")
    assert shipped["leakage"]["samples"] == samples


def test_every_constraint_has_its_figure() -> None:
    assert set(_FIGURES) == set(Constraints.model_fields)


def test_weights_that_are_all_0_choose_nothing() -> None:
    with pytest.raises(ValidationError, match="all weights are 0"):
        Objective(latency=0, cost=0, quality=0)


def test_as_json_it_has_what_was_asked_and_every_candidate() -> None:
    made = planned(Constraints(max_edge_macs_share=0.5))
    data = plan_json(made)
    assert data["link"] == {"rtt_ms": 10, "up_mbit_s": 1, "down_mbit_s": 8, "loss": 0}
    assert data["best"] == data["candidates"][0]
    assert data["best"]["stages_p50"]["up_ms"] == pytest.approx(7)
    assert [each["admissible"] for each in data["candidates"]] == [True, True, True, False]
    assert data["candidates"][-1]["misses"] == [{"constraint": "max_edge_macs_share", "limit": 0.5, "value": 1.0}]
