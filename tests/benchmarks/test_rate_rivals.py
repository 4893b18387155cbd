"""The image files that the cut is measured against, and how their best settings are found."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.rate_points import Measured, Reference, kl_curve, log_softmax
from benchmarks.rivals import LOSSY, Grid, Rival, Way, contenders, search
from schemas.tensor import TensorSpec

SAMPLE = TensorSpec(dtype="uint8", shape=(28, 28, 1))
QUALITIES = (10, 40, 70, 90)


def made(rival: Rival, samples: int = 20) -> Measured:
    """A law of its own: fewer bytes and more loss for less quality; a size of 16 never gets below 0.5."""
    assert rival.quality is not None
    size, loss = 3.0 * rival.quality * rival.side, 50.0 / rival.quality**2 + (0.5 if rival.side == 16 else 0.0)
    ones = np.ones(samples)
    return Measured("input", rival.setting(), size * ones, loss * ones, ones > 0)


@pytest.mark.parametrize("format_", [*LOSSY, "png"])
@pytest.mark.parametrize("side", [28, 16])
def test_every_rival_is_a_setting_of_codec_input(format_: str, side: int) -> None:
    rival = Rival(format_, side, None if format_ == "png" else 90)
    codec = rival.codec(SAMPLE)
    image = np.full(SAMPLE.shape, 100, np.uint8)
    assert codec.id == "input"
    assert np.abs(codec.decode(codec.encode(image)).astype(int) - 100).max() <= 3


def test_sizes_that_never_come_near_are_left_out() -> None:
    ways = [Way(side, None) for side in (28, 24, 16)]
    scouts = {way: [made(Rival("jpeg", way.side, quality)) for quality in QUALITIES] for way in ways}
    assert contenders(scouts, [0.1, 0.02]) == [Way(24, None)]
    assert contenders(scouts, [1e-9]) == ways


def test_the_search_looks_at_all_on_few_samples_and_at_the_best_on_all() -> None:
    asked: list[tuple[Rival, int]] = []

    def measure(rival: Rival, every: int) -> Measured:
        asked.append((rival, every))
        return made(rival, 20 // every)

    family = search(Grid("jpeg", (28, 24, 16), QUALITIES), [0.1, 0.02], measure, 4)
    assert [(rival.side, rival.chroma, rival.quality) for rival, every in asked if every == 4] == [
        (side, chroma, quality) for side in (28, 24, 16) for chroma in ("4:2:0", "4:4:4") for quality in QUALITIES
    ]
    assert {rival.side for rival, every in asked if every == 1} == {24}
    curve = kl_curve(family.whole[Way(24, "4:2:0")])
    assert curve.losses[:, 0].max() > 0.1
    assert curve.losses[:, 0].min() < 0.02


def test_each_setting_is_reported_once() -> None:
    family = search(Grid("jpeg", (28, 16), QUALITIES), [0.1], lambda rival, every: made(rival, 20 // every), 4)
    settings = [tuple(point.setting.values()) for point in family.points()]
    assert len(settings) == len(set(settings))
    assert {len(point.sizes) for point in family.points() if point.setting["side"] == 28} == {20, 5}


def test_a_rival_without_loss_agrees_with_the_unsplit_model() -> None:
    reference = Reference(log_softmax(np.eye(3)))
    assert reference.judge("input", Rival("png", 28).setting(), np.ones(3), reference.logs).row()["agreement"] == 1
