"""Which operating points a limit on SSIM lets pass, by what the manifest says of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bundle import OperatingPoint, seal
from schemas.errors import ManifestError
from schemas.policy import TaskRoutingPolicy
from tests.schemas.manifests import fields

share = st.floats(0, 1)


def point(part: str, codec: str, config: dict[str, Any], ssim: float | None) -> OperatingPoint:
    leakage = None if ssim is None else {"ssim": ssim, "samples": 100}
    return OperatingPoint.model_validate({"id": 1, "part": part, "codec": codec, "config": config, "leakage": leakage})


@pytest.mark.parametrize(
    ("part", "config", "stated", "ssim"),
    [
        ("full", {"format": "png"}, None, 1.0),
        ("full", {"format": "webp"}, 0.2, 1.0),
        ("full", {"format": "zstd"}, None, 1.0),
        ("full", {"format": "png", "shrink": [4, 4]}, None, None),
        ("full", {"format": "png", "shrink": [4, 4]}, 0.4, 0.4),
        ("full", {"format": "webp", "quality": 80}, None, None),
        ("full", {"format": "webp", "quality": 80}, 0.9, 0.9),
        ("tail", {"format": "zstd"}, None, None),
    ],
)
def test_what_holds_the_sample_whole_has_an_ssim_of_1_whatever_is_stated(
    part: str, config: dict[str, Any], stated: float | None, ssim: float | None
) -> None:
    assert point(part, "input", config, stated).ssim == ssim


@given(share | st.none(), st.floats(-1, 1) | st.none())
def test_nothing_passes_a_limit_that_is_over_it_or_not_measured(limit: float | None, ssim: float | None) -> None:
    refused = TaskRoutingPolicy(max_ssim=limit).over_max_ssim(ssim)
    assert bool(refused) == (limit is not None and (ssim is None or ssim > limit))
    if refused:
        assert f"max_ssim is {limit:g}" in refused


def test_the_reason_names_the_value_and_the_limit() -> None:
    policy = TaskRoutingPolicy(max_ssim=0.5)
    assert policy.over_max_ssim(0.75) == "its SSIM is 0.75, max_ssim is 0.5"
    assert policy.over_max_ssim(None) == "its SSIM was not measured, max_ssim is 0.5"


def test_the_interface_does_not_change_with_what_was_measured() -> None:
    measured = fields()
    measured["points"][0]["leakage"] = {"ssim": 0.4, "samples": 300, "held_out": 100}
    sealed = seal(measured)
    assert sealed.interface == seal(fields()).interface
    assert sealed.points[0].ssim == 0.4


@pytest.mark.parametrize(
    ("leakage", "field"),
    [({"ssim": 2, "samples": 5}, "ssim"), ({"ssim": 0.5}, "samples"), ({"samples": 0}, "samples"), ({"x": 1}, "x")],
)
def test_a_wrong_figure_is_named(leakage: dict[str, Any], field: str) -> None:
    wrong = fields()
    wrong["points"][0]["leakage"] = leakage
    with pytest.raises(ManifestError, match=rf"points\.0\.leakage\.{field}"):
        seal(wrong)
