"""What a link makes of an inference's bytes, as closed formulas.

One inference is one frame up and one reply down over an open MQTT connection. The broker and the worker stand at the
far end of the link, so that its round trip is the only distance.

A direction takes half a round trip and the bytes at its rate. Loss is of TCP segments, each by itself with probability
p, and every segment lost is repeated until it arrives. The losses of one round are repaired together, and the rounds
follow each other with a doubling time-out, so with n segments in both directions

    P(more than k rounds) = 1 - (1 - p^(k+1))^n
    delay after K rounds  = RTO (2^K - 1)                          RTO = round trip + 200 ms, as Linux has it
    mean delay            = RTO * sum over k of 2^k P(more than k rounds)
    delay at quantile q   = RTO (2^K - 1) with the least K that has P(more than K rounds) <= 1 - q

A short frame has nothing behind it that would reveal a loss sooner, so the time-out is what it waits; for frames of
many segments this errs to the safe side. Not in it: TCP's handshake and slow start, headers below MQTT, and queues on
the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from schemas.record import Record

UP_BEYOND_BYTES: Final = 71
"""Bytes of a frame beyond its tensor, MQTT included, as `python -m benchmarks overhead` counts them."""
DOWN_BYTES: Final = 42
"""A reply, MQTT included."""
BEYOND_BYTES: Final = UP_BEYOND_BYTES + DOWN_BYTES
"""Bytes of an inference beyond its tensor, both directions."""
MESSAGES: Final = 2
SEGMENT_BYTES: Final = 1460
_TIMEOUT_FLOOR_MS: Final = 200.0
_ROUNDS: Final = 15
"""After so many repetitions TCP gives up."""

Rate = Annotated[float, Field(gt=0, le=1e6)]


class Link(Record):
    """An edge node's link: round trip, rates in Mbit/s (10**6 bits), share of TCP segments lost in each direction."""

    rtt_ms: Annotated[float, Field(ge=0, le=100_000)]
    up_mbit_s: Rate
    down_mbit_s: Rate
    loss: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    def up_ms(self, frame_bytes: float) -> float:
        """A frame's way up when nothing is lost."""
        return self.rtt_ms / 2 + frame_bytes * 8 / (self.up_mbit_s * 1000)

    @property
    def down_ms(self) -> float:
        """A reply's way down when nothing is lost."""
        return self.rtt_ms / 2 + DOWN_BYTES * 8 / (self.down_mbit_s * 1000)

    @property
    def timeout_ms(self) -> float:
        """How long TCP waits before it repeats a segment for the first time."""
        return self.rtt_ms + _TIMEOUT_FLOOR_MS

    def resend_mean_ms(self, segments: int) -> float:
        """Expected delay by losses among so many segments."""
        return self.timeout_ms * sum(2.0**done * self._more_rounds(segments, done) for done in range(_ROUNDS))

    def resend_ms(self, segments: int, quantile: float) -> float:
        """Delay by losses among so many segments that is not exceeded with probability `quantile`, below 1."""
        rounds = 0
        while rounds < _ROUNDS and self._more_rounds(segments, rounds) > 1 - quantile:
            rounds += 1
        return self.timeout_ms * (2.0**rounds - 1)

    def _more_rounds(self, segments: int, done: int) -> float:
        """Probability that more than `done` rounds of repetition are needed."""
        return -math.expm1(segments * math.log1p(-(self.loss ** (done + 1))))


def segments_of(size: float) -> int:
    """TCP segments that so many bytes fill."""
    return max(1, math.ceil(size / SEGMENT_BYTES))


LINKS: Final[Mapping[str, Link]] = {
    "LAN": Link(rtt_ms=0.5, up_mbit_s=1000, down_mbit_s=1000),
    "DSL": Link(rtt_ms=20, up_mbit_s=10, down_mbit_s=50),
    "4G": Link(rtt_ms=50, up_mbit_s=5, down_mbit_s=20),
    "EDGE2G": Link(rtt_ms=400, up_mbit_s=0.1, down_mbit_s=0.2),
}
"""Links by name; the same ones that `benchmarks.shaper` emulates."""
