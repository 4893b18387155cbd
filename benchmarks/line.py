"""One direction of one connection: bytes go in, wait their time, and come out in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from enum import Enum

from benchmarks.links import Direction, Pace


class End(Enum):
    """How a direction ends; it travels like a byte, after all those that were sent before."""

    FINISHED = "the sender half-closed"
    RESET = "the sender reset the connection"


class Line:
    """A delay line with a rate and a bounded buffer, for one writer and one reader.

    Nothing is lost or reordered, and nothing comes out early. What the loop's timer adds is late: under
    1 ms with uvloop, up to 2 ms with the standard loop, whose selector rounds up twice. `direction` may
    change at any time, for what is put in from then on.
    """

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.entered = 0
        self._pace = Pace()
        self._items: deque[tuple[float, bytes | End]] = deque()
        self._inside = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Hand bytes over, waiting while the line is full."""
        while self._inside and self._inside + len(data) > self.direction.capacity_bytes:
            self._room.clear()
            await self._room.wait()
        self._inside += len(data)
        self.entered += len(data)
        self._push(data, len(data))

    def finish(self, end: End) -> None:
        """Hand the end over; nothing may be put in afterwards."""
        self._push(end, 0)

    async def get(self) -> bytes | End:
        """Wait until the next piece has arrived, and give it."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        due, item = self._items[0]
        await _sleep_until(due)
        self._items.popleft()
        if not isinstance(item, End):
            self._inside -= len(item)
            self._room.set()
        return item

    def _push(self, item: bytes | End, size: int) -> None:
        self._items.append((self._pace.arrival(self.direction, time.monotonic(), size), item))
        self._filled.set()


async def _sleep_until(due: float) -> None:
    """Return at the monotonic time `due`, never before: uvloop rounds its timers to a millisecond, either way."""
    while (left := due - time.monotonic()) > 0:  # noqa: ASYNC110  it is the clock that is waited for
        await asyncio.sleep(left)
