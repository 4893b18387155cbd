from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.binomial import lower_tail, upper_bound
from schemas.errors import ConfigError


def exact(successes: int, trials: int, chance: Fraction) -> Fraction:
    rest = 1 - chance
    return sum(
        (math.comb(trials, k) * chance**k * rest ** (trials - k) for k in range(successes + 1)), start=Fraction(0)
    )


@given(st.integers(1, 60), st.integers(1, 99), st.data())
def test_the_tail_is_that_of_exact_fractions(trials: int, percent: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    wanted = exact(successes, trials, Fraction(percent, 100))
    assert lower_tail(successes, trials, percent / 100) == pytest.approx(float(wanted), rel=1e-10, abs=1e-15)


@pytest.mark.parametrize("successes", [0, 30, 149, 150, 151, 400])
def test_three_thousand_trials_are_as_exact(successes: int) -> None:
    wanted = exact(successes, 3000, Fraction(1, 20))
    assert lower_tail(successes, 3000, 1 / 20) == pytest.approx(float(wanted), rel=1e-10)


def test_a_million_trials_follow_the_normal_limit() -> None:
    trials, chance = 1_000_000, 0.3
    sigma = math.sqrt(trials * chance * (1 - chance))
    for z in (-3.0, -1.0, 0.0, 2.0):
        limit = (1 + math.erf(z / math.sqrt(2))) / 2
        assert lower_tail(round(trials * chance + z * sigma), trials, chance) == pytest.approx(limit, rel=0.01)


@pytest.mark.parametrize(
    ("successes", "trials", "chance", "wanted"),
    [(0, 0, 0.5, 1.0), (5, 5, 0.1, 1.0), (3, 9, 0.0, 1.0), (3, 9, 1.0, 0.0), (9, 9, 1.0, 1.0), (0, 4, 0.5, 1 / 16)],
)
def test_the_ends(successes: int, trials: int, chance: float, wanted: float) -> None:
    assert lower_tail(successes, trials, chance) == pytest.approx(wanted, rel=1e-12)


def test_the_upper_bound_is_that_of_the_tables() -> None:
    assert upper_bound(0, 10, 0.05) == pytest.approx(1 - 0.05**0.1, abs=1e-12)
    assert upper_bound(9, 10, 0.05) == pytest.approx(0.95 ** (1 / 10), abs=1e-12)
    assert upper_bound(2, 20, 0.025) == pytest.approx(0.3169827, abs=1e-6)
    assert (upper_bound(4, 4, 0.05), upper_bound(0, 0, 0.05)) == (1.0, 1.0)


@given(st.integers(1, 500), st.floats(0.001, 0.5), st.data())
def test_bound_and_tail_say_the_same(trials: int, delta: float, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials - 1))
    bound = upper_bound(successes, trials, delta)
    assert bound > successes / trials
    assert lower_tail(successes, trials, bound) == pytest.approx(delta, rel=1e-6)


@pytest.mark.parametrize(
    ("successes", "trials", "chance"), [(-1, 3, 0.5), (4, 3, 0.5), (1, 3, -0.1), (1, 3, 1.1), (1, 3, math.nan)]
)
def test_what_is_no_binomial_is_refused(successes: int, trials: int, chance: float) -> None:
    for function in (lower_tail, upper_bound):
        with pytest.raises(ConfigError, match="give"):
            function(successes, trials, chance)


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_a_bound_needs_a_level_between_0_and_1(delta: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        upper_bound(1, 3, delta)
