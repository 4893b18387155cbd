"""Exact binomial arithmetic: the tail that certificates are made of, and the bound that it gives. No SciPy."""

from __future__ import annotations

import math
from typing import Final

from schemas.errors import ConfigError

_NEGLIGIBLE: Final = 1e-18
_HALVINGS: Final = 60


def lower_tail(successes: int, trials: int, chance: float) -> float:
    """P(X <= successes) for X ~ Binomial(trials, chance); relative error below 1e-8 up to a million trials.

    The p-value of the hypothesis that the chance is at least `chance`. Of no trials at all it is 1. Raises ConfigError
    unless 0 <= successes <= trials and 0 <= chance <= 1.
    """
    _check(successes, trials, chance)
    if successes == trials or chance == 0:
        return 1.0
    if chance == 1:
        return 0.0
    if successes <= trials * chance:
        return min(1.0, _falling_sum(successes, trials, chance))
    return max(0.0, 1.0 - _falling_sum(trials - successes - 1, trials, 1.0 - chance))


def upper_bound(successes: int, trials: int, delta: float) -> float:
    """The one-sided upper confidence bound at level 1 - delta of the chance (Clopper and Pearson 1934).

    The largest chance whose lower tail is not below delta; 1 when every trial succeeded or there was none. Raises
    ConfigError unless 0 <= successes <= trials and 0 < delta < 1.
    """
    _check(successes, trials, delta)
    if not 0 < delta < 1:
        msg = f"delta is {delta}; give a probability above 0 and below 1"
        raise ConfigError(msg)
    if successes == trials:
        return 1.0
    low, high = successes / trials, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if lower_tail(successes, trials, middle) > delta else (low, middle)
    return high


def _falling_sum(successes: int, trials: int, chance: float) -> float:
    """Sum of P(X = i) down from `successes`, which is not above the mean: each term is smaller than the one before."""
    odds = (1.0 - chance) / chance
    term = total = 1.0
    for count in range(successes, 0, -1):
        term *= count * odds / (trials - count + 1)
        total += term
        if term < _NEGLIGIBLE * total:
            break
    return math.exp(_log_chance_of(successes, trials, chance) + math.log(total))


def _log_chance_of(successes: int, trials: int, chance: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return ways + successes * math.log(chance) + (trials - successes) * math.log1p(-chance)


def _check(successes: int, trials: int, chance: float) -> None:
    if not 0 <= successes <= trials:
        msg = f"{successes} successes of {trials} trials; give counts from 0 on, no more successes than trials"
        raise ConfigError(msg)
    if not 0 <= chance <= 1:
        msg = f"a chance of {chance}; give a number from 0 to 1"
        raise ConfigError(msg)
