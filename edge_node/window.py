"""How many frames a node may have in flight."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Window:
    """Additive increase, multiplicative decrease (Chiu and Jain, 1989) of the frames in flight.

    `try_enter` never waits: a request that finds the window full is answered on the edge, since a deadline
    runs and a queue on the edge would only hide the overload.
    """

    least: float = 1.0
    most: float = 64.0
    size: float = 16.0
    in_flight: int = 0
    refused: int = 0

    def try_enter(self) -> bool:
        """Take a place; False when all are taken."""
        if self.in_flight >= int(self.size):
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
