"""What a link does to bytes, as pure data and a virtual clock: no sockets, no asyncio."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_BYTES_PER_MBIT: Final = 125_000
_FULL_SEGMENT: Final = 1460
_LARGEST_SEGMENT: Final = 65_536
_SEGMENT_S: Final = 0.001
_MOST_IN_FLIGHT: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Direction:
    """One way of a link: bytes leave one after the other at a rate, then travel for the delay."""

    delay_s: float
    bytes_per_s: float
    buffer_bytes: int

    @property
    def segment_bytes(self) -> int:
        """The largest piece that travels as one: a full TCP segment, or a millisecond's worth on a fast link."""
        return min(max(_FULL_SEGMENT, int(self.bytes_per_s * _SEGMENT_S)), _LARGEST_SEGMENT)

    @property
    def capacity_bytes(self) -> int:
        """How much may wait and travel at once before the sender is held back."""
        return self.buffer_bytes + min(int(self.bytes_per_s * self.delay_s), _MOST_IN_FLIGHT)


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """A node's own access link: round trip in ms, Mbit/s (10^6 bits) either way, buffer before each way.

    Raises ValueError for a rate that is not above zero or a negative round trip or buffer.
    """

    rtt_ms: float
    up_mbit: float
    down_mbit: float
    buffer_bytes: int = 256 * 1024

    def __post_init__(self) -> None:
        rates = (self.up_mbit, self.down_mbit)
        if not all(math.isfinite(value) and value > 0 for value in rates):
            msg = f"rates are {self.up_mbit} and {self.down_mbit} Mbit/s; both must be finite and above 0"
            raise ValueError(msg)
        if not (math.isfinite(self.rtt_ms) and self.rtt_ms >= 0 and self.buffer_bytes >= 0):
            msg = f"round trip is {self.rtt_ms} ms, buffer {self.buffer_bytes} bytes; neither may be negative"
            raise ValueError(msg)

    @property
    def up(self) -> Direction:
        """From the node to the broker."""
        return Direction(self.rtt_ms / 2000, self.up_mbit * _BYTES_PER_MBIT, self.buffer_bytes)

    @property
    def down(self) -> Direction:
        """From the broker to the node."""
        return Direction(self.rtt_ms / 2000, self.down_mbit * _BYTES_PER_MBIT, self.buffer_bytes)

    def __str__(self) -> str:
        return f"{self.rtt_ms:g} ms, {self.up_mbit:g} Mbit/s up, {self.down_mbit:g} Mbit/s down"


PROFILES: Final[Mapping[str, LinkProfile]] = {
    "LAN": LinkProfile(rtt_ms=0.5, up_mbit=1000, down_mbit=1000),
    "DSL": LinkProfile(rtt_ms=20, up_mbit=10, down_mbit=50),
    "4G": LinkProfile(rtt_ms=50, up_mbit=5, down_mbit=20),
    "EDGE2G": LinkProfile(rtt_ms=400, up_mbit=0.1, down_mbit=0.2, buffer_bytes=32 * 1024),
}


@dataclass(frozen=True, slots=True)
class Traffic:
    """Payload bytes of TCP that entered the link: up from the nodes, down from the broker."""

    up: int
    down: int
    connections: int


class Pace:
    """The virtual clock of one direction of one connection; times are in seconds of any one clock."""

    def __init__(self) -> None:
        self._departed = -math.inf
        self._arrived = -math.inf

    def arrival(self, direction: Direction, now: float, size: int) -> float:
        """When `size` bytes, handed over now, have arrived in full; never before those handed over earlier."""
        self._departed = max(now, self._departed) + size / direction.bytes_per_s
        self._arrived = max(self._arrived, self._departed + direction.delay_s)
        return self._arrived
