"""Accuracy and bytes of several seeds against lossy WebP."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.rate_curves import Curve
from benchmarks.rate_points import Reference, log_softmax
from benchmarks.rate_seeds import Shipped, seed_rows, seed_targets

SAMPLES = 1000


def answers(wrong: int) -> np.ndarray:
    """Logits (N, 2) of which the first `wrong` say class 1, where 0 is right."""
    logits = np.zeros((SAMPLES, 2))
    logits[:, 0] = 1
    logits[:wrong] = (0, 1)
    return logits


def shipped(size: float, wrong: int) -> Shipped:
    return Shipped(np.full(SAMPLES, size), answers(wrong))


def webp(*points: tuple[float, int]) -> Curve:
    sizes = np.array([[size] * SAMPLES for size, _ in points], np.float64)
    losses = np.array([answers(wrong).argmax(axis=1) for _, wrong in points], np.float64)
    return Curve(sizes, losses)


@pytest.fixture
def reference() -> Reference:
    return Reference(log_softmax(answers(60)), np.zeros(SAMPLES, int))


CURVE = webp((100, 120), (200, 80), (400, 60))


def test_a_row_says_what_webp_needs_for_the_same_accuracy(reference: Reference) -> None:
    (row,) = seed_rows(reference, {"seed 0": [shipped(50, 80)]}, [CURVE])
    assert row["accuracy"] == pytest.approx(0.92)
    assert row["behind_cloud_points"] == pytest.approx(2)
    assert (row["webp_bytes"], row["webp_ratio"]) == (pytest.approx(200), pytest.approx(4))


def test_a_tail_better_than_the_unsplit_model_is_compared_at_the_models_accuracy(reference: Reference) -> None:
    (row,) = seed_rows(reference, {"seed 0": [shipped(50, 40)]}, [CURVE])
    assert row["behind_cloud_points"] == pytest.approx(-2)
    assert row["webp_bytes"] == pytest.approx(400)


def test_targets_are_means_over_seeds_at_the_richest_point_within_the_cap(reference: Reference) -> None:
    seeds = {
        "seed 0": [shipped(90, 60), shipped(60, 60), shipped(30, 100)],
        "seed 1": [shipped(50, 64), shipped(20, 300)],
    }
    behind, times = seed_targets(seed_rows(reference, seeds, [CURVE]))
    assert behind.value == pytest.approx(0.2)
    assert behind.ok
    assert times.ok
    assert "mean of 2 seeds" in times.name


def test_a_seed_without_a_point_within_the_cap_misses_both(reference: Reference) -> None:
    seeds = {"seed 0": [shipped(60, 60)], "seed 1": [shipped(65, 60)]}
    assert all(
        math.isnan(target.value) and not target.ok for target in seed_targets(seed_rows(reference, seeds, [CURVE]))
    )
