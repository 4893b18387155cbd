"""Finds the levels of a codec that lose a wanted KL divergence, with few evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from schemas.codecs.transform import COARSEST, FINEST, LEVELS_AN_OCTAVE
from schemas.errors import ConfigError

EVALUATIONS: Final = 4
"""At most so many for each target."""
_NEAR: Final = 0.15
"""Of a target, close enough to stop."""
_FLOOR: Final = 1e-9


def levels_for(targets: Sequence[float], kl_at: Callable[[int], float]) -> tuple[int, ...]:
    """Levels, fine to coarse, each the nearest to a target that was looked at; `kl_at` is asked once for a level.

    The first guess is that the loss grows with the square of the step; then between the two levels about the target.
    Where `kl_at` raises ConfigError nothing is left at that level, and it counts as an endless loss.
    """
    known: dict[int, float] = {}
    return tuple(sorted({_find(target, _cached(kl_at, known), known) for target in sorted(targets)}))


def _cached(kl_at: Callable[[int], float], known: dict[int, float]) -> Callable[[int], float]:
    def ask(level: int) -> float:
        if level not in known:
            try:
                known[level] = kl_at(level)
            except ConfigError:
                known[level] = math.inf
        return known[level]

    return ask


def _find(target: float, ask: Callable[[int], float], known: dict[int, float]) -> int:
    ask(0)
    for _ in range(EVALUATIONS):
        best = _nearest(target, known)
        if abs(known[best] / target - 1) <= _NEAR:
            break
        wanted = _next(target, known)
        if wanted in known:
            break
        ask(wanted)
    return _nearest(target, known)


def _nearest(target: float, known: dict[int, float]) -> int:
    finite = [level for level, kl in known.items() if math.isfinite(kl)]
    return min(finite or known, key=lambda level: abs(_octaves(known[level], target)))


def _next(target: float, known: dict[int, float]) -> int:
    """Where to look: between a level that loses less and one that loses more, else as far as the square says."""
    below = max((level for level, kl in known.items() if kl <= target), default=None)
    above = min(
        (level for level, kl in known.items() if kl > target and (below is None or level > below)), default=None
    )
    if below is not None and above is not None:
        if math.isinf(known[above]):
            return (below + above) // 2
        share = _octaves(target, known[below]) / max(_octaves(known[above], known[below]), _FLOOR)
        inside = below + round(share * (above - below))
        return min(max(inside, below + 1), max(above - 1, below))
    start = below if below is not None else above
    assert start is not None  # noqa: S101 - one level is known
    if math.isinf(known[start]):
        return max(FINEST, start - LEVELS_AN_OCTAVE)
    moved = start + round(_octaves(target, known[start]) * LEVELS_AN_OCTAVE / 2)
    return min(max(moved, FINEST), COARSEST)


def _octaves(one: float, other: float) -> float:
    return math.log2(max(one, _FLOOR) / max(other, _FLOOR))
