"""When to send an unanswered request again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RetryTimer:
    """Retransmission timeout from round-trip times, all in seconds (Jacobson and Karels; RFC 6298).

    A reply to a request that was sent once is a sample. One to a repeated request could belong to any attempt:
    Karn's rule leaves it out, and then a round trip that has grown beyond the timeout has every request repeated
    for good. So it counts as a reply to the first attempt, up to twice the timeout.
    """

    initial_s: float = 0.25
    floor_s: float = 0.03
    cap_s: float = 2.0
    smoothed_s: float | None = None
    variation_s: float = 0.0

    def sample(self, round_trip_s: float) -> None:
        """Take one round-trip time."""
        if self.smoothed_s is None:
            self.smoothed_s, self.variation_s = round_trip_s, round_trip_s / 2
            return
        self.variation_s += (abs(self.smoothed_s - round_trip_s) - self.variation_s) / 4
        self.smoothed_s += (round_trip_s - self.smoothed_s) / 8

    def sample_repeated(self, since_first_s: float) -> None:
        """Take the time from the first attempt of a repeated request to its reply."""
        self.sample(min(since_first_s, 2.0 * self.timeout(0)))

    def timeout(self, attempt: int) -> float:
        """How long to wait for the reply to the attempt of that number, counted from 0; it doubles each time."""
        base = self.initial_s if self.smoothed_s is None else self.smoothed_s + 4 * self.variation_s + self.floor_s
        return min(self.cap_s, max(self.floor_s, base) * 2.0 ** min(attempt, 16))
