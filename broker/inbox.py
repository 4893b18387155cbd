"""A bounded queue of deliveries: the half of a subscription that every bus shares."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Self

from broker.bus import Delivery, SubscriptionStatistics


def refuse_repeat(topic_filter: str, taken: Iterable[str]) -> None:
    """Raise ValueError when a bus has a subscription of that filter already."""
    if topic_filter in taken:
        msg = f"this bus is subscribed to {topic_filter!r} already; share that subscription"
        raise ValueError(msg)


class Inbox:
    """Deliveries of one filter, oldest first; the newest is dropped and counted when it is full."""

    def __init__(self, topic_filter: str, limit: int) -> None:
        self.filter = topic_filter
        self._limit = limit
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._closed = False
        self._received = self._dropped = 0

    def put(self, delivery: Delivery) -> bool:
        """Append one delivery; False when it was dropped because the queue is full."""
        self._received += 1
        if len(self._waiting) >= self._limit:
            self._dropped += 1
            return False
        self._waiting.append(delivery)
        self._arrived.set()
        return True

    def close(self) -> None:
        """End the iteration once what waits has been taken."""
        self._closed = True
        self._arrived.set()

    def statistics(self) -> SubscriptionStatistics:
        """Counters since the subscription began."""
        return SubscriptionStatistics(self._received, self._dropped, len(self._waiting))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()
