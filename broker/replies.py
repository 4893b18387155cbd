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
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from broker.bus import Bus, Message, QoS
from broker.packets import publish_size
from broker.rto import RetryTimer
from schemas.errors import NoReplyError, NotConnectedError

_REMEMBERED = 4096
_MOST_ATTEMPTS = 1 << 16
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
    started: float
    most_attempts: int
    reply: Message | None = None
    sent_at: float = 0.0
    """When the first frame went out."""
    attempts: int = 0
    """Frames that went out."""
    sendings: int = 0
    """Those that may have gone out, too: the connection broke meanwhile."""
    bytes_up: int = 0
    _waiter: asyncio.Future[None] | None = None

    def take(self, reply: Message) -> None:
        """Take the first reply, and end the wait for it."""
        self.reply = reply
        self._wake()

    async def wait(self, patience_s: float) -> None:
        """Return when there is a reply, or after the time; a plain future, since every frame passes here."""
        if self.reply is not None or patience_s <= 0:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(patience_s, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Requester:
    """Asks on any topic, takes the replies on one. Use `open_requester`."""

    def __init__(
        self, bus: Bus, timer: RetryTimer | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """`clock` measures how long replies take; a running loop's own clock may be too coarse for that."""
        self.timer = timer or RetryTimer()
        self._clock = clock
        self._bus = bus
        self._prefix = secrets.token_bytes(4)
        self._next = 0
        self._pending: dict[bytes, _Request] = {}
        self._over: dict[bytes, bool] = {}
        self._order: deque[bytes] = deque()
        self._asked = self._answered = self._retried = self._unanswered = self._late = self._duplicate = 0

    async def ask(
        self, topic: str, payload: bytes, *, deadline: float, qos: QoS = 0, most_attempts: int = _MOST_ATTEMPTS
    ) -> Answered:
        """Send a request until it is answered; `deadline` is a time of the running loop's clock, in seconds.

        It is sent at most `most_attempts` times; after the last of them only the wait goes on.

        Each attempt carries what is left until the deadline as its message expiry, rounded up. Raises
        NoReplyError at the deadline, also when the link was down all that time, and what `Bus.publish` raises
        where the broker will not have the message. Exactly one of reply and error comes; a reply that comes
        later is counted and dropped.
        """
        loop = asyncio.get_running_loop()
        correlation = self._correlation()
        request = _Request(Message(topic, payload, qos=qos, correlation=correlation), self._clock(), most_attempts)
        self._pending[correlation] = request
        self._asked += 1
        try:
            while request.reply is None and deadline - loop.time() > _CLOCK_S:
                if await self._attempt(request, deadline):
                    await request.wait(self._patience_s(request, deadline - loop.time()))
            if request.reply is None:
                self._unanswered += 1
                raise NoReplyError(topic, request.attempts, self._clock() - request.started, request.bytes_up)
            return self._done(request, request.reply)
        finally:
            self._retried += max(0, request.attempts - 1)
            del self._pending[correlation]
            self._remember(correlation, answered=request.reply is not None)

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
        correlation = message.correlation or b""
        request = self._pending.get(correlation)
        if request is not None and request.reply is None:
            request.take(message)
        elif request is not None or self._over.get(correlation, False):
            self._duplicate += 1
        else:
            self._late += 1

    async def _attempt(self, request: _Request, deadline: float) -> bool:
        """Publish once, or, when the link is down, wait for it and return False; until the deadline at the longest."""
        left_s = deadline - asyncio.get_running_loop().time()
        asked = request.message
        expiry_s = math.ceil(min(left_s, _LONGEST_EXPIRY_S))
        frame = Message(asked.topic, asked.payload, asked.qos, correlation=asked.correlation, expiry_s=expiry_s)
        request.sendings += 1
        if request.sendings == 1:
            request.sent_at = self._clock()
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

    def _done(self, request: _Request, reply: Message) -> Answered:
        self._answered += 1
        now = self._clock()
        if request.sendings == 1:
            self.timer.sample(now - request.sent_at)
        elif request.sendings == request.attempts:  # else the link was down for some of it
            self.timer.sample_repeated(now - request.sent_at)
        return Answered(reply, request.attempts, now - request.started, request.bytes_up, publish_size(reply))

    def _patience_s(self, request: _Request, left_s: float) -> float:
        """How long to wait for a reply before the next attempt, or until the deadline where there is no other."""
        last = request.attempts >= request.most_attempts
        return left_s if last else min(left_s, self.timer.timeout(request.attempts - 1))

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
async def open_requester(
    bus: Bus, reply_topic: str, *, qos: QoS = 0, clock: Callable[[], float] = time.perf_counter
) -> AsyncIterator[Requester]:
    """A requester that takes its replies on `reply_topic` for as long as the context lasts."""
    requester = Requester(bus, clock=clock)
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
            await asyncio.wait({task})
