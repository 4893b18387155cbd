"""How many bytes a fidelity takes, read off measured points. NumPy only.

A loss is anything positive that falls as bytes rise: KL of the output in nats, or the share of wrong answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TINY = 1e-12
_ROUNDS = 500
_FEW = 0.02
_INTERVAL = (5, 95)
"""Percentiles: a 90 % interval."""


class Curve(NamedTuple):
    """One codec at P settings over the same N samples, float64 (P, N) each."""

    sizes: Floats
    """Payloads in bytes."""
    losses: Floats

    def means(self, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """Mean bytes and mean loss of each setting, (P,), the samples weighted by `weights` (N,)."""
        return np.average(self.sizes, axis=1, weights=weights), np.average(self.losses, axis=1, weights=weights)

    def bytes_at(self, loss: float, weights: Floats | None = None) -> float:
        """See the function of that name."""
        return bytes_at(*self.means(weights), loss)


def bytes_at(sizes: Floats, losses: Floats, loss: float) -> float:
    """The least mean bytes at which the points, taken in order of bytes, first come down to `loss`.

    Straight between the two points about it, in both logarithms; never beyond the points. NaN when the smallest
    point is better already, since fewer bytes might do too; infinite when no point is as good.
    """
    order = np.argsort(sizes, kind="stable")
    x, y = np.log(sizes[order]), np.log(np.maximum(losses[order], _TINY))
    wanted = float(np.log(loss))
    reached = np.flatnonzero(y <= wanted)
    if not len(reached):
        return float("inf")
    after = int(reached[0])
    if y[after] == wanted:
        return float(np.exp(x[after]))
    if after == 0:
        return float("nan")
    share = (y[after - 1] - wanted) / (y[after - 1] - y[after])
    return float(np.exp(x[after - 1] + share * (x[after] - x[after - 1])))


def least_bytes(curves: Sequence[Curve], loss: float, weights: Floats | None = None) -> float:
    """The lower envelope of several curves at a loss; NaN when none comes down to it, or when one begins below it."""
    least = float(np.min([curve.bytes_at(loss, weights) for curve in curves], initial=np.inf))
    return least if np.isfinite(least) else float("nan")


def ratio(theirs: Sequence[Curve], ours: Curve, loss: float, weights: Floats | None = None) -> float:
    """The rivals' least bytes over ours at a loss; NaN when either is not within what was measured."""
    return least_bytes(theirs, loss, weights) / least_bytes([ours], loss, weights)


def spread(
    statistic: Callable[[Floats], float], groups: Ints, rounds: int = _ROUNDS, seed: int = 1
) -> tuple[float, float]:
    """90 % interval of a statistic of sample weights (N,), whole groups drawn with replacement (Efron 1979).

    `groups` (N,) numbers the group of each sample from 0: crops of one photo are no independent samples. Rounds
    in which the statistic is NaN are left out when they are few; NaN when they are not.
    """
    rng = np.random.default_rng(seed)
    count = int(groups.max()) + 1
    found = np.array(
        [
            statistic(np.bincount(rng.integers(0, count, count), minlength=count)[groups].astype(np.float64))
            for _ in range(rounds)
        ]
    )
    if np.isnan(found).mean() > _FEW:
        return float("nan"), float("nan")
    low, high = np.nanpercentile(found, _INTERVAL)
    return float(low), float(high)


def refined(qualities: Sequence[int], losses: Sequence[float], targets: Sequence[float]) -> list[int]:
    """Qualities, ascending, about those at which the losses of `qualities`, ascending, pass each of the targets.

    Of each pair that has a target between them both and the one halfway; the two highest where a target is not
    reached, the lowest where it is met by all.
    """
    chosen: set[int] = set()
    for target in targets:
        after = next((index for index, loss in enumerate(losses) if loss <= target), len(losses))
        low, high = (qualities[min(max(at, 0), len(qualities) - 1)] for at in (after - 1, after))
        chosen |= {low, (low + high) // 2, high} if after < len(losses) else set(qualities[-2:])
    return sorted(chosen)
