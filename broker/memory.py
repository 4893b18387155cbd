"""A bus in memory, with faults on demand: the same contract as the real ones, for tests and single processes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Self

from broker.bus import BusStatistics, Delivery, Message, QoS, Subscription
from broker.inbox import Inbox, refuse_repeat
from broker.matching import matches, split_share
from broker.presence import Announcer
from schemas.errors import NotConnectedError


@dataclass(slots=True)
class Faults:
    """What goes wrong in a MemoryBroker; may be changed at any moment."""

    drop_next: int = 0
    """Lose that many of the next messages, silently."""
    duplicate_next: int = 0
    """Deliver that many of the next messages twice."""
    lost: list[Message] = field(default_factory=list)
    """What was lost."""


@dataclass(slots=True)
class _Member:
    bus: MemoryBus
    inbox: Inbox
    qos: QoS


class MemoryBroker:
    """Routes messages between its buses as a broker would, within one event loop."""

    def __init__(self) -> None:
        self.faults = Faults()
        self._retained: dict[str, Message] = {}
        self._members: list[_Member] = []
        self._turns: dict[str, int] = {}

    def route(self, message: Message) -> None:
        """Take a message from a publisher to every subscription that it matches."""
        if self.faults.drop_next > 0:
            self.faults.drop_next -= 1
            self.faults.lost.append(message)
            return
        if message.retain:
            self._keep(message)
        live = replace(message, retain=False)
        times = 2 if self.faults.duplicate_next > 0 else 1
        self.faults.duplicate_next -= times - 1
        for _ in range(times):
            self._deliver(live)

    def join(self, member: _Member) -> None:
        """Add a subscription; it gets the retained messages first."""
        self._members.append(member)
        group, topic_filter = split_share(member.inbox.filter)
        if group is None:
            for message in self._retained.values():
                if matches(topic_filter, message.topic):
                    member.bus.receive(member, message)

    def leave(self, member: _Member) -> None:
        """Remove a subscription."""
        if member in self._members:
            self._members.remove(member)

    def _keep(self, message: Message) -> None:
        if message.payload:
            self._retained[message.topic] = message
        else:
            self._retained.pop(message.topic, None)

    def _deliver(self, message: Message) -> None:
        groups: dict[str, list[_Member]] = {}
        for member in self._members:
            group, topic_filter = split_share(member.inbox.filter)
            if not matches(topic_filter, message.topic):
                continue
            if group is None:
                member.bus.receive(member, message)
            else:
                groups.setdefault(member.inbox.filter, []).append(member)
        for key, members in groups.items():
            turn = self._turns.get(key, 0)
            self._turns[key] = turn + 1
            chosen = members[turn % len(members)]
            chosen.bus.receive(chosen, message)


class MemoryBus:
    """One client of a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, announcer: Announcer | None = None) -> None:
        self._broker = broker
        self._announcer = announcer
        self._members: list[_Member] = []
        self._up = asyncio.Event()
        self._session = ""
        self._connects = self._published = self._received = 0

    async def __aenter__(self) -> Self:
        self.connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Leave without a word: whoever wants a last presence announces it first."""
        self._up.clear()
        for member in self._members:
            self._broker.leave(member)
            member.inbox.close()

    @property
    def connected(self) -> bool:
        """Whether a publish would go out at this moment."""
        return self._up.is_set()

    @property
    def session(self) -> str:
        """Stamp of the current connection; empty before the first."""
        return self._session

    async def wait_connected(self) -> None:
        """Return once connected."""
        await self._up.wait()

    def connect(self) -> None:
        """Come (back) up: subscriptions are restored, then the birth is published. Harmless when up."""
        if self.connected:
            return
        self._session = secrets.token_hex(4)
        self._connects += 1
        for member in self._members:
            self._broker.join(member)
        self._up.set()
        if self._announcer is not None:
            self._broker.route(self._announcer.birth(self._session))

    def drop(self) -> None:
        """Lose the connection as a process that was killed does: the will is published."""
        if not self.connected:
            return
        self._up.clear()
        for member in self._members:
            self._broker.leave(member)
        if self._announcer is not None:
            self._broker.route(self._announcer.will(self._session))

    async def publish(self, message: Message) -> None:
        """Route a message at once. Raises NotConnectedError when the bus is down."""
        if not self.connected:
            msg = "the memory bus is not connected; call connect()"
            raise NotConnectedError(msg)
        self._published += 1
        self._broker.route(message)
        await asyncio.sleep(0)

    @asynccontextmanager
    async def subscribe(self, topic_filter: str, *, qos: QoS = 0, limit: int = 1024) -> AsyncIterator[Subscription]:
        """Deliveries of a filter for as long as the context lasts."""
        refuse_repeat(topic_filter, [member.inbox.filter for member in self._members])
        member = _Member(self, Inbox(topic_filter, limit), qos)
        self._members.append(member)
        if self.connected:
            self._broker.join(member)
        try:
            yield member.inbox
        finally:
            self._members.remove(member)
            self._broker.leave(member)
            member.inbox.close()

    def receive(self, member: _Member, message: Message) -> None:
        """Put a message from the broker into one subscription's queue, at the lower of both QoS."""
        self._received += 1
        granted: QoS = 1 if message.qos and member.qos else 0
        member.inbox.put(Delivery(replace(message, qos=granted), lambda: None))

    def statistics(self) -> BusStatistics:
        """Counters since the start."""
        return BusStatistics(self._connects, self._published, self._received, unroutable=0)
