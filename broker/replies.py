"""Request and reply over a bus: correlation, deadline, end-to-end retry.

Brokers lose frames (a dead member of a shared subscription takes its share with it), so the asker owns a
request until it is answered: an unanswered frame is sent again, with the same correlation, until its
deadline. Whoever answers must therefore expect duplicates, and whoever asks drops second replies.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from broker.bus import Bus, Message, QoS
from broker.packets import publish_size
from broker.rto import RetryTimer
from schemas.errors import NoReplyError, NotConnectedError

_REMEMBERED = 4096
_RECONNECT_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply and what it took to get it."""

    message: Message
    attempts: int
    waited_s: float
    """From the first attempt to the reply."""
    bytes_up: int
    """MQTT bytes of all attempts."""
    bytes_down: int


@dataclass(frozen=True, slots=True)
class RequesterStatistics:
    """How requests fare since the start."""

    asked: int
    answered: int
    retried: int
    unanswered: int
    late: int
    """Replies after the deadline."""
    duplicate: int
    """Second replies to one request."""
    pending: int


class Requester:
    """Asks on any topic, takes the replies on one. Use `open_requester`."""

    def __init__(self, bus: Bus, timer: RetryTimer | None = None) -> None:
        self.timer = timer or RetryTimer()
        self._bus = bus
        self._prefix = secrets.token_bytes(4)
        self._next = 0
        self._pending: dict[bytes, asyncio.Future[Message]] = {}
        self._over: dict[bytes, bool] = {}
        self._order: deque[bytes] = deque()
        self._asked = self._answered = self._retried = self._unanswered = self._late = self._duplicate = 0

    async def ask(self, topic: str, payload: bytes, *, deadline: float, qos: QoS = 0) -> Answered:
        """Send a request until it is answered; `deadline` is a time of the running loop's clock, in seconds.

        Each attempt carries what is left until the deadline as its message expiry, rounded up. Raises
        NoReplyError at the deadline, also when the link was down all that time; exactly one of reply and
        error comes, and a reply that comes later is counted and dropped.
        """
        loop = asyncio.get_running_loop()
        correlation = self._correlation()
        request = Message(topic, payload, qos=qos, correlation=correlation)
        future: asyncio.Future[Message] = loop.create_future()
        self._pending[correlation] = future
        self._asked += 1
        started, attempts, sent = loop.time(), 0, 0
        try:
            while (left := deadline - loop.time()) > 0:
                frame = replace(request, expiry_s=math.ceil(left))
                if not await self._attempt(frame, left):
                    continue
                sent += publish_size(frame)
                attempts += 1
                reply = await self._reply_within(future, min(deadline, loop.time() + self.timer.timeout(attempts - 1)))
                if reply is not None:
                    return self._done(reply, attempts, loop.time() - started, sent)
            self._unanswered += 1
            raise NoReplyError(topic, attempts, loop.time() - started)
        finally:
            self._retried += max(0, attempts - 1)
            del self._pending[correlation]
            self._remember(correlation, answered=future.done() and not future.cancelled())

    def statistics(self) -> RequesterStatistics:
        """Counters since the start."""
        return RequesterStatistics(
            self._asked,
            self._answered,
            self._retried,
            self._unanswered,
            self._late,
            self._duplicate,
            len(self._pending),
        )

    def take(self, message: Message) -> None:
        """Give a reply to whoever waits for it, or count why nobody does."""
        correlation = message.correlation
        future = self._pending.get(correlation) if correlation is not None else None
        if future is not None and not future.done():
            future.set_result(message)
        elif future is not None or self._over.get(correlation or b"", False):
            self._duplicate += 1
        else:
            self._late += 1

    async def _attempt(self, frame: Message, left_s: float) -> bool:
        """Publish once; when the link is down wait for it instead, at most as long as is left."""
        try:
            await self._bus.publish(frame)
        except NotConnectedError:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_RECONNECT_POLL_S, left_s)):
                    await self._bus.wait_connected()
                    await asyncio.sleep(0)
            return False
        return True

    async def _reply_within(self, future: asyncio.Future[Message], until: float) -> Message | None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                return await asyncio.shield(future)
        return None

    def _done(self, reply: Message, attempts: int, waited_s: float, sent: int) -> Answered:
        self._answered += 1
        if attempts == 1:
            self.timer.sample(waited_s)
        return Answered(reply, attempts, waited_s, sent, publish_size(reply))

    def _correlation(self) -> bytes:
        """8 bytes, unique in this process and, but for 1 in 2**32, between restarts."""
        self._next = (self._next + 1) % (1 << 32)
        return self._prefix + self._next.to_bytes(4, "big")

    def _remember(self, correlation: bytes, *, answered: bool) -> None:
        self._over[correlation] = answered
        self._order.append(correlation)
        if len(self._order) > _REMEMBERED:
            del self._over[self._order.popleft()]


@asynccontextmanager
async def open_requester(bus: Bus, reply_topic: str, *, qos: QoS = 0) -> AsyncIterator[Requester]:
    """A requester that takes its replies on `reply_topic` for as long as the context lasts."""
    requester = Requester(bus)
    async with bus.subscribe(reply_topic, qos=qos) as subscription:

        async def collect() -> None:
            async for delivery in subscription:
                requester.take(delivery.message)
                delivery.ack()

        task = asyncio.create_task(collect(), name=f"replies on {reply_topic}")
        try:
            yield requester
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
