"""Bytes at a fidelity, read off points: straight in the logarithms, and never beyond what was measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.rate_curves import Curve, bytes_at, least_bytes, ratio, refined, spread


def power_law(sizes: list[float], scale: float = 100.0, samples: int = 6) -> Curve:
    """Every sample loses scale / bytes squared."""
    points = np.array(sizes)
    each = np.tile(points[:, None], samples)
    return Curve(each, scale / each**2)


def at(sizes: list[float], losses: list[float], loss: float) -> float:
    return bytes_at(np.array(sizes), np.array(losses), loss)


def test_a_power_law_is_met_between_its_points() -> None:
    curve = power_law([10, 20, 80])
    assert curve.bytes_at(100 / 15**2) == pytest.approx(15)
    assert curve.bytes_at(100 / 50**2) == pytest.approx(50)


def test_the_order_of_the_points_does_not_matter() -> None:
    assert at([80, 10, 20], [0.1, 3, 1], 0.5) == at([10, 20, 80], [3, 1, 0.1], 0.5)


def test_a_point_that_is_met_exactly_is_taken_though_it_is_the_first() -> None:
    assert at([10, 20], [1, 0.5], 1) == pytest.approx(10)


def test_nothing_is_said_beyond_the_points() -> None:
    assert math.isnan(at([10, 20], [1, 0.5], 2))
    assert at([10, 20], [1, 0.5], 0.4) == math.inf


def test_of_several_crossings_the_first_counts() -> None:
    assert at([10, 20, 40, 80], [2, 0.5, 2, 0.1], 1) == pytest.approx(10 * 2**0.5)


def test_a_loss_of_nought_is_as_good_as_any() -> None:
    assert 10 < at([10, 20], [1, 0], 0.5) < 20


def test_the_envelope_is_the_least_of_those_that_get_there() -> None:
    near, far = power_law([10, 100]), power_law([10, 100], scale=400)
    never = power_law([1, 2])
    assert least_bytes([far, near, never], 100 / 30**2) == pytest.approx(30)
    assert math.isnan(least_bytes([never], 0.01))
    assert math.isnan(least_bytes([], 0.01))


def test_one_curve_that_begins_below_the_loss_leaves_the_envelope_open() -> None:
    assert math.isnan(least_bytes([power_law([10, 100]), power_law([60, 100])], 100 / 30**2))


def test_a_ratio_is_that_of_the_bytes() -> None:
    ours, theirs = power_law([10, 100]), power_law([10, 1000], scale=900)
    assert ratio([theirs], ours, 0.1) == pytest.approx(3)
    assert math.isnan(ratio([theirs], ours, 1e-9))


def test_weights_leave_samples_out() -> None:
    curve = Curve(np.array([[10.0, 30.0], [20.0, 60.0]]), np.array([[1.0, 3.0], [0.5, 1.5]]))
    sizes, losses = curve.means(np.array([1.0, 0.0]))
    assert (sizes.tolist(), losses.tolist()) == ([10, 20], [1, 0.5])


def test_the_interval_holds_the_mean_and_is_wider_where_groups_are_alike() -> None:
    values = np.sort(np.random.default_rng(1).normal(5, 1, 400))

    def mean(weights: np.ndarray) -> float:
        return float(np.average(values, weights=weights))

    low, high = spread(mean, np.arange(400))
    assert low < values.mean() < high
    assert spread(mean, np.arange(400)) == (low, high)
    coarse_low, coarse_high = spread(mean, np.arange(400) // 40)
    assert coarse_high - coarse_low > 3 * (high - low)


def test_an_interval_of_what_is_often_unknown_is_unknown() -> None:
    assert all(math.isnan(end) for end in spread(lambda weights: math.nan if weights[0] else 1.0, np.arange(4)))


def test_qualities_are_refined_about_each_target() -> None:
    qualities, losses = [10, 30, 50, 80, 90], [2.0, 1.0, 0.5, 0.2, 0.1]
    assert refined(qualities, losses, [0.7]) == [30, 40, 50]
    assert refined(qualities, losses, [0.7, 0.15]) == [30, 40, 50, 80, 85, 90]
    assert refined(qualities, losses, [0.01]) == [80, 90]
    assert refined(qualities, losses, [3.0]) == [10]
