"""A factory of buses on one broker, for every broker that there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest

from benchmarks.shaper import PROFILES, Shaper
from broker.bus import Bus
from broker.engines import RunningBroker
from broker.link import Link
from broker.memory import MemoryBroker, MemoryBus
from broker.presence import Announcer
from tests.broker.helpers import link_to, soon, unique, until


class Buses(Protocol):
    """Buses of one broker, and the way to break their connections."""

    def topic(self, name: str = "t") -> str: ...
    async def open(self, announcer: Announcer | None = None) -> Bus: ...
    async def cut(self, bus: Bus) -> None: ...
    async def heal(self, bus: Bus) -> None: ...
    async def close(self, bus: Bus) -> None: ...


class MemoryBuses:
    def __init__(self, stack: AsyncExitStack) -> None:
        self._broker = MemoryBroker()
        self._stack = stack

    def topic(self, name: str = "t") -> str:
        return name

    async def open(self, announcer: Announcer | None = None) -> MemoryBus:
        return await self._stack.enter_async_context(MemoryBus(self._broker, announcer))

    async def cut(self, bus: MemoryBus) -> None:
        bus.drop()

    async def heal(self, bus: MemoryBus) -> None:
        bus.connect()

    async def close(self, bus: MemoryBus) -> None:
        await bus.__aexit__()


class LinkedBuses:
    """Each link runs through an emulated line of its own, so that it can be cut."""

    def __init__(self, stack: AsyncExitStack, broker: RunningBroker) -> None:
        self._root = unique()
        self._stack = stack
        self._broker = broker
        self._lines: dict[Link, tuple[Shaper, AsyncExitStack]] = {}

    def topic(self, name: str = "t") -> str:
        return f"{self._root}/{name}"

    async def open(self, announcer: Announcer | None = None) -> Link:
        line = await self._stack.enter_async_context(Shaper(self._broker.host, self._broker.port, PROFILES["LAN"]))
        own = await self._stack.enter_async_context(AsyncExitStack())
        link = await own.enter_async_context(link_to(line.url, announcer))
        self._lines[link] = line, own
        await link.wait_connected(10)
        return link

    async def cut(self, bus: Link) -> None:
        await self._lines[bus][0].cut()
        await until(lambda: not bus.connected)

    async def heal(self, bus: Link) -> None:
        await self._lines[bus][0].heal()
        await soon(bus.wait_connected())

    async def close(self, bus: Link) -> None:
        await self._lines[bus][1].aclose()


@pytest.fixture(params=["memory", "mosquitto", "rumqttd"])
def broker(request: pytest.FixtureRequest) -> RunningBroker | None:
    """A real one, or None for the memory."""
    return None if request.param == "memory" else request.getfixturevalue(request.param)


@pytest.fixture
async def buses(broker: RunningBroker | None) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        yield MemoryBuses(stack) if broker is None else LinkedBuses(stack, broker)
