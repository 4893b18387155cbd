"""When to look whether a link or a cloud that was found too slow has become better."""

from __future__ import annotations

import math
from dataclasses import dataclass

AGAIN_S = 0.2
"""After a probe that found it better: three in a row must, before the estimate follows."""
LONGEST_S = 2.0
"""How long a probe waits for its answer."""


@dataclass(slots=True)
class Probes:
    """The times of probes, in seconds of one monotonic clock. Pure.

    A node that answers alone, since the cloud would be too slow or its breaker is open, hears nothing more of it.
    So one request in `every_s` is sent as well, after its answer, until the estimates have followed.
    """

    last: float = -math.inf
    sent: int = 0
    under_way: bool = False

    def due(self, now: float, every_s: float, *, recovering: bool) -> bool:
        """Whether another may go; sooner while the last ones were good."""
        return not self.under_way and now - self.last >= (min(AGAIN_S, every_s) if recovering else every_s)

    def begin(self, now: float) -> None:
        """One goes; the next is not due before `end`."""
        self.last = now
        self.sent += 1
        self.under_way = True

    def end(self) -> None:
        """It has been answered, or has not been."""
        self.under_way = False
