"""Request and reply over a bus: correlation, deadline, end-to-end retry.

Brokers lose frames (a dead member of a shared subscription takes its share with it), so the asker owns a
request until it is answered: an unanswered frame is sent again, with the same correlation, until its
deadline. Whoever answers must therefore expect duplicates, and whoever asks drops second replies.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from broker.bus import Bus, Message, QoS
from broker.packets import publish_size
from broker.rto import RetryTimer
from schemas.errors import NoReplyError, NotConnectedError

_REMEMBERED = 4096
_CLOCK_S = 0.001
"""Resolution of uvloop's clock; so much before the deadline nothing is sent any more."""
_NAP_S = 0.005
_LONGEST_EXPIRY_S = 0xFFFF_FFFF


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


@dataclass(slots=True)
class _Request:
    """One request under way."""

    message: Message
    reply: asyncio.Future[Message]
    started: float = field(default_factory=time.perf_counter)
    sent_at: float = 0.0
    attempts: int = 0
    """Frames that went out."""
    sendings: int = 0
    """Those that may have gone out, too: the connection broke meanwhile."""
    bytes_up: int = 0

    def waited_s(self) -> float:
        return time.perf_counter() - self.started


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
        NoReplyError at the deadline, also when the link was down all that time, and what `Bus.publish` raises
        where the broker will not have the message. Exactly one of reply and error comes; a reply that comes
        later is counted and dropped.
        """
        loop = asyncio.get_running_loop()
        request = _Request(Message(topic, payload, qos=qos, correlation=self._correlation()), loop.create_future())
        correlation, reply = self._begin(request)
        try:
            while not reply.done() and deadline - loop.time() > _CLOCK_S:
                if await self._attempt(request, deadline):
                    patience = min(deadline - loop.time(), self.timer.timeout(request.attempts - 1))
                    await asyncio.wait({reply}, timeout=max(0.0, patience))
            if not reply.done():
                self._unanswered += 1
                raise NoReplyError(topic, request.attempts, request.waited_s(), request.bytes_up)
            return self._done(request)
        finally:
            self._retried += max(0, request.attempts - 1)
            del self._pending[correlation]
            self._remember(correlation, answered=reply.done())

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

    def _begin(self, request: _Request) -> tuple[bytes, asyncio.Future[Message]]:
        correlation = request.message.correlation or b""
        self._pending[correlation] = request.reply
        self._asked += 1
        return correlation, request.reply

    async def _attempt(self, request: _Request, deadline: float) -> bool:
        """Publish once, or, when the link is down, wait for it and return False; until the deadline at the longest."""
        left_s = deadline - asyncio.get_running_loop().time()
        frame = replace(request.message, expiry_s=math.ceil(min(left_s, _LONGEST_EXPIRY_S)))
        request.sendings += 1
        request.sent_at = time.perf_counter()
        try:
            async with asyncio.timeout_at(deadline):
                await self._bus.publish(frame)
        except NotConnectedError:
            await self._until_connected(deadline)
            return False
        except TimeoutError:
            pass  # it may have been sent
        request.attempts += 1
        request.bytes_up += publish_size(frame)
        return True

    async def _until_connected(self, deadline: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                if self._bus.connected:  # it is about to notice
                    await asyncio.sleep(_NAP_S)
                await self._bus.wait_connected()

    def _done(self, request: _Request) -> Answered:
        self._answered += 1
        if request.sendings == 1:
            self.timer.sample(time.perf_counter() - request.sent_at)
        reply = request.reply.result()
        return Answered(reply, request.attempts, request.waited_s(), request.bytes_up, publish_size(reply))

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
