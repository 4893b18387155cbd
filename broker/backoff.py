"""How long to wait before trying again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Full-jitter exponential back-off (Brooker, "Exponential Backoff And Jitter", AWS, 2015).

    The n-th delay is uniform in [0, min(cap, base * 2**n)] seconds, so that a fleet that lost its broker
    does not come back in one wave.
    """

    base_s: float = 0.1
    cap_s: float = 30.0
    random: random.Random = field(default_factory=random.SystemRandom)
    _attempt: int = 0

    def next(self) -> float:
        """The next delay, in seconds."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(self._attempt, 32))
        self._attempt += 1
        return self.random.uniform(0.0, ceiling)

    def reset(self) -> None:
        """Begin anew after a success."""
        self._attempt = 0
