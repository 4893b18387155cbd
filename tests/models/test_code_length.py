"""The ideal code length under static integer tables."""

from __future__ import annotations

import numpy as np
import pytest

from models.fashion_mnist import code_length


def test_frequencies_are_whole_and_sum_to_the_precision() -> None:
    q = np.random.default_rng(1).integers(-3, 4, (200, 5))
    tables = code_length.count(q)
    assert tables.low == -4
    assert (tables.frequencies >= 1).all()
    assert (tables.frequencies.sum(axis=1) == 2**code_length.PRECISION).all()


def test_an_element_that_never_varies_costs_nearly_nothing() -> None:
    assert code_length.count(np.zeros((1000, 4), int)).bits(np.zeros((1, 4), int))[0] < 0.01


def test_fair_coins_cost_a_bit_each() -> None:
    q = np.random.default_rng(2).integers(0, 2, (20_000, 8))
    assert code_length.count(q).bits(q).mean() == pytest.approx(8.0, abs=0.02)


def test_each_element_has_its_own_table() -> None:
    dice = np.random.default_rng(3)
    q = np.stack([np.full(5000, 2), dice.integers(0, 4, 5000)], axis=1)
    assert code_length.count(q).bits(q).mean() == pytest.approx(2.0, abs=0.02)


def test_what_was_never_seen_is_clipped_and_has_a_price() -> None:
    tables = code_length.count(np.zeros((100, 1), int))
    rare, far = tables.bits(np.array([[1], [9]]))
    assert rare == far > 5.0


def test_the_payload_is_bytes_of_bits_and_the_overhead() -> None:
    q = np.random.default_rng(4).integers(0, 2, (20_000, 80))
    assert code_length.mean_bytes(q, q) == pytest.approx(10 + code_length.OVERHEAD, abs=0.05)


def test_the_factor_ends_just_below_the_target() -> None:
    assert code_length.factor_for(50.0, lambda factor: 40.0 * factor) == pytest.approx(1.25, rel=1e-3)
    assert 40.0 * code_length.factor_for(50.0, lambda factor: 40.0 * factor) <= 50.0


def test_levels_are_rounded_products_with_a_gain_for_each_channel() -> None:
    cut = np.full((1, 2, 7, 7), 1.2, np.float32)
    assert code_length.levels(cut, np.array([1.0, 2.0], np.float32)).reshape(2, 49).tolist() == [[1] * 49, [2] * 49]
