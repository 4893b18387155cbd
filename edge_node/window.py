"""How many frames a node may have in flight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from schemas.policy import Priority

_SHARES: Final[Mapping[Priority, float]] = {Priority.LOW: 0.5, Priority.NORMAL: 0.875, Priority.HIGH: 1.0}
"""Of the window, what each priority may fill."""


@dataclass(slots=True)
class Window:
    """Additive increase, multiplicative decrease (Chiu and Jain, 1989) of the frames in flight.

    `try_enter` never waits: a request that finds the window full is answered on the edge, since a deadline
    runs and a queue on the edge would only hide the overload. The last places are for those of a higher priority.
    """

    least: float = 1.0
    most: float = 64.0
    size: float = 16.0
    in_flight: int = 0
    refused: int = 0

    def try_enter(self, priority: Priority = Priority.HIGH) -> bool:
        """Take a place; False when all that one of this priority may have are taken."""
        if self.in_flight >= max(1, int(self.size * _SHARES[priority])):
            self.refused += 1
            return False
        self.in_flight += 1
        return True

    def leave(self, *, ok: bool | None) -> None:
        """Give the place back: True widens the window by 1 a window, False halves it, None says nothing of the load."""
        self.in_flight -= 1
        if ok:
            self.size = min(self.most, self.size + 1.0 / self.size)
        elif ok is not None:
            self.size = max(self.least, self.size / 2.0)
