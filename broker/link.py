"""The bus over a real broker: one connection at a time, restored for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

from broker.backoff import Backoff
from broker.bus import BusStatistics, Delivery, Message, QoS, Subscription
from broker.connection import Connection, LinkConfig, open_connection
from broker.inbox import Inbox, refuse_repeat
from broker.matching import matches, split_share
from broker.presence import Announcer
from schemas.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    LinkError,
    NotConnectedError,
    SplitbusError,
)

__all__ = ["Link", "LinkConfig"]

_STABLE_S: Final = 5.0
"""A connection that lasts so long ends the back-off; two clients of one id must not throw each other out in a spin."""

logger = logging.getLogger(__name__)


class Link:
    """A Bus over one MQTT 5 connection that is restored for as long as the context lasts.

    Entering does not wait for the broker; `wait_connected` does.
    """

    def __init__(self, config: LinkConfig, announcer: Announcer | None = None) -> None:
        self._config = config
        self._announcer = announcer
        self._inboxes: dict[str, tuple[Inbox, QoS]] = {}
        self._connection: Connection | None = None
        self._up = asyncio.Event()
        self._settled = asyncio.Event()
        self._fatal: LinkError | None = None
        self._last_error = "no attempt has ended yet"
        self._task: asyncio.Task[None] | None = None
        self._session = ""
        self._connects = self._published = self._received = self._unroutable = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep_connected(), name=f"link {self._config.client_id}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Say DISCONNECT, so that the broker does not publish the will, and close."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        for inbox, _ in self._inboxes.values():
            inbox.close()

    @property
    def connected(self) -> bool:
        """Whether a publish would go out at this moment."""
        return self._up.is_set()

    @property
    def session(self) -> str:
        """Stamp of the current connection; empty before the first."""
        return self._session

    @property
    def last_error(self) -> str:
        """Why the last attempt or connection ended; kept while connected."""
        return self._last_error

    async def wait_connected(self, timeout_s: float | None = None) -> None:
        """Return once connected.

        Raises BrokerRefusedError when the broker said no for good, BrokerUnavailableError after `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self.connected:
                    self._settled.clear()
                    if self._fatal is not None:
                        raise self._fatal
                    await self._settled.wait()
        except TimeoutError:
            msg = (
                f"no connection to {self._config.address} within {timeout_s:g} s ({self._last_error}); "
                "start a broker there, or name another with --broker"
            )
            raise BrokerUnavailableError(msg) from None

    async def publish(self, message: Message) -> None:
        """Hand a message to the broker; see Bus.publish. Raises TooLargeError over the broker's own limit."""
        connection = self._connection
        if connection is None or not self.connected:
            msg = f"not connected to {self._config.address}; the link is trying to come back"
            raise NotConnectedError(msg)
        self._published += 1
        await connection.publish(message)

    @asynccontextmanager
    async def subscribe(self, topic_filter: str, *, qos: QoS = 0, limit: int = 1024) -> AsyncIterator[Subscription]:
        """Deliveries of a filter for as long as the context lasts; see Bus.subscribe."""
        refuse_repeat(topic_filter, self._inboxes)
        inbox = Inbox(topic_filter, limit)
        self._inboxes[topic_filter] = (inbox, qos)
        try:
            if self._connection is not None:
                with suppress(NotConnectedError):  # the next connection restores it
                    await self._connection.subscribe(topic_filter, qos)
            yield inbox
        finally:
            try:  # what the broker sends until it has acknowledged the end still belongs to this subscription
                if self._connection is not None:
                    await self._connection.unsubscribe(topic_filter)
            finally:
                del self._inboxes[topic_filter]
                inbox.close()

    def statistics(self) -> BusStatistics:
        """Counters since the start."""
        return BusStatistics(self._connects, self._published, self._received, self._unroutable)

    def route(self, message: Message, ack: Callable[[], None]) -> None:
        """Put one delivery into the inbox of every subscription that it matches."""
        self._received += 1
        matching = [box for box, _ in self._inboxes.values() if _takes(box.filter, message)]
        self._unroutable += not matching
        taken = [inbox.put(Delivery(message, ack)) for inbox in matching]
        if not any(taken):
            ack()

    async def _keep_connected(self) -> None:
        backoff = Backoff(cap_s=self._config.backoff_cap_s)
        while True:
            try:
                await self._one_connection(backoff)
            except Exception as error:  # noqa: BLE001 - whatever it is, the link must go on
                self._note(error)
            self._settled.set()
            delay = backoff.next()
            logger.debug("%s: %s; next attempt in %.1f s", self._config.address, self._last_error, delay)
            await asyncio.sleep(delay)

    def _say_lost(self, lasted_s: float) -> None:
        config = self._config
        hint = f"; is another client called {config.client_id!r}, too?" if lasted_s < _STABLE_S else ""
        logger.warning("%s: %s after %.1f s%s", config.address, self._last_error, lasted_s, hint)

    def _note(self, error: Exception) -> None:
        """Remember why there is no connection; say it where people look when it is news."""
        if not isinstance(error, SplitbusError):
            logger.error("the link failed in a way that is not foreseen; trying again", exc_info=error)
        elif str(error) != self._last_error:
            logger.warning("%s: %s; trying again", self._config.address, error)
        self._last_error = str(error)
        if isinstance(error, BrokerRefusedError) and not self._connects:
            self._fatal = error

    async def _one_connection(self, backoff: Backoff) -> None:
        """Connect, restore, announce, and stay until the connection breaks."""
        session = secrets.token_hex(4)
        will = None if self._announcer is None else self._announcer.will(session)
        async with open_connection(self._config, will, self.route) as connection:
            self._connection = connection  # a subscription that begins from now on subscribes itself
            try:
                await self._restore(connection)
                self._session = session
                if self._announcer is not None:
                    await connection.publish(self._announcer.birth(session))
                self._connects += 1
                self._fatal = None
                self._up.set()
                self._settled.set()
                since = asyncio.get_running_loop().time()
                self._last_error = await connection.lost()
                lasted_s = asyncio.get_running_loop().time() - since
                if lasted_s >= _STABLE_S:
                    backoff.reset()
                self._say_lost(lasted_s)
            finally:
                self._up.clear()
                self._connection = None

    async def _restore(self, connection: Connection) -> None:
        for topic_filter, entry in list(self._inboxes.items()):
            if self._inboxes.get(topic_filter) is entry:  # it may have ended meanwhile
                await connection.subscribe(topic_filter, entry[1])


def _takes(topic_filter: str, message: Message) -> bool:
    """Whether a delivery is one of a subscription; mosquitto 2.0.11 sends retained ones to shared ones too."""
    group, plain = split_share(topic_filter)
    return matches(plain, message.topic) and not (message.retain and group is not None)
