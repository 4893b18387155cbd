"""When to stop asking a cloud that does not answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Circuit breaker (Nygard, "Release It!", 2007); times are seconds of one monotonic clock.

    Closed until `limit` failures in a row, then open for `open_s`; after that one request at a time is let
    through as a probe, whose success closes it and whose failure opens it again. Whoever entered says how it
    ended by exactly one of `succeeded`, `failed` and `left`.
    """

    limit: int = 5
    open_s: float = 2.0
    failures: int = 0
    opened_at: float | None = None
    opened: int = 0
    """How often it opened."""
    probing: bool = False
    """Whether a probe is under way."""

    @property
    def closed(self) -> bool:
        """Whether requests pass as they come; else at most a probe does."""
        return self.opened_at is None

    def allows(self, now: float) -> bool:
        """Whether a request, or a probe, may be sent."""
        return self.opened_at is None or (now - self.opened_at >= self.open_s and not self.probing)

    def try_enter(self, now: float) -> bool:
        """Take the way that `allows` speaks of; False when there is none."""
        if not self.allows(now):
            return False
        self.probing = self.opened_at is not None
        return True

    def succeeded(self) -> None:
        """An answer came."""
        self.failures, self.opened_at, self.probing = 0, None, False

    def failed(self, now: float) -> None:
        """No answer came, or none of use."""
        self.probing = False
        self.failures += 1
        if self.failures >= self.limit:
            self.opened += self.opened_at is None
            self.opened_at = now

    def left(self) -> None:
        """It ended in a way that says nothing about the cloud."""
        self.probing = False
