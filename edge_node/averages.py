"""Averages of what was seen lately: robust against one outlier, quick to believe the worse, slow the better."""

from __future__ import annotations

from collections import deque
from dataclasses import InitVar, dataclass, field
from statistics import median_low

MARGIN = 0.15
"""A better value is believed when it is better by this share."""
STABLE = 3
"""And when so many observations in a row say so."""
_WORSE_WEIGHT, _BETTER_WEIGHT = 0.5, 0.4


@dataclass(slots=True)
class Ewma:
    """Exponentially weighted moving average; the first observation replaces the prior."""

    value: float
    weight: float = 0.2
    seen: int = 0

    def observe(self, value: float) -> None:
        """Take one observation."""
        self.value = value if self.seen == 0 else self.value + self.weight * (value - self.value)
        self.seen += 1


@dataclass(slots=True)
class Hysteresis:
    """When a belief that one acts on is to follow a moving value of which less is better.

    At once to a worse one; to a better one after STABLE observations in a row that are better by MARGIN, so that
    noise below the margin moves nothing back and forth. Schmitt's trigger (1938), with a count on one side.
    """

    least: float = 0.0
    """No gain below this is worth a move, whatever share it is."""
    better: int = 0
    """Observations in a row that were better by the margin."""

    def follows(self, moving: float, believed: float) -> bool:
        """Whether to believe the moving value from now on; call it once an observation."""
        self.better = self.better + 1 if believed - moving > max(self.least, believed * MARGIN) else 0
        if moving >= believed or self.better >= STABLE:
            self.better = 0
            return True
        return False


@dataclass(slots=True)
class SteadyEwma:
    """A robust average of a time or a share, with hysteresis: `value` is what to act on.

    Behind a median of the last three, which no single outlier passes (Tukey, 1977), it moves half the way
    towards a worse (greater) observation and less towards a better one. The first observation replaces the prior.
    """

    value: float
    seen: int = 0
    _moving: float = 0.0
    _last: deque[float] = field(default_factory=lambda: deque(maxlen=3))
    least: InitVar[float] = 0.0
    """No gain below this is worth a move for the better."""
    _hysteresis: Hysteresis = field(init=False)

    def __post_init__(self, least: float) -> None:
        self._hysteresis = Hysteresis(least)

    def observe(self, value: float) -> None:
        """Take one observation."""
        self._last.append(value)
        value = median_low(self._last)
        self.seen += 1
        if self.seen == 1:
            self.value = self._moving = value
            return
        self._moving += weight_of(value, self._moving) * (value - self._moving)
        if self._hysteresis.follows(self._moving, self.value):
            self.value = self._moving


def weight_of(observed: float, believed: float) -> float:
    """How much an observation counts against what was believed: more when it is worse."""
    return _WORSE_WEIGHT if observed > believed else _BETTER_WEIGHT
