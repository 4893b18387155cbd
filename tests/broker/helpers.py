"""Small words that the tests of the bus share."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from broker.address import BrokerAddress
from broker.bus import Bus, Delivery, Message, Subscription
from broker.link import Link, LinkConfig
from broker.presence import Announcer
from schemas.messages import Presence
from schemas.topics import Topics
from schemas.wire import decode_map

T = TypeVar("T")
PATIENCE_S = 20.0


def unique(name: str = "t") -> str:
    """A topic level or client id that no other test uses."""
    return f"{name}-{secrets.token_hex(4)}"


async def soon(awaitable: Awaitable[T], limit_s: float = PATIENCE_S) -> T:
    """What must happen; TimeoutError when it does not."""
    async with asyncio.timeout(limit_s):
        return await awaitable


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until something that has no event of its own is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.002)


async def until_connected(link: Link, times: int) -> None:
    """Until it is up for that many-th time at least."""
    await until(lambda: link.statistics().connects >= times and link.connected)


async def take(subscription: Subscription, count: int) -> list[Message]:
    """The next deliveries, acknowledged."""
    return [delivery.message for delivery in await take_unacknowledged(subscription, count, ack=True)]


async def take_unacknowledged(subscription: Subscription, count: int, *, ack: bool = False) -> list[Delivery]:
    deliveries = []
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(count):
            deliveries.append(await anext(subscription))
            if ack:
                deliveries[-1].ack()
    return deliveries


async def payloads(subscription: Subscription, count: int) -> list[bytes]:
    return [message.payload for message in await take(subscription, count)]


async def publish_all(bus: Bus, messages: list[Message]) -> None:
    async with asyncio.TaskGroup() as group:
        for message in messages:
            group.create_task(bus.publish(message))


@asynccontextmanager
async def linked(url: str, announcer: Announcer | None = None, **options: object) -> AsyncIterator[Link]:
    """A link that is up."""
    async with link_to(url, announcer, **options) as link:
        await link.wait_connected(PATIENCE_S)
        yield link


def link_to(url: str, announcer: Announcer | None = None, **options: object) -> Link:
    """A link that comes up by itself, with a short back-off."""
    given = {"client_id": unique("c"), "backoff_cap_s": 0.2, **options}
    return Link(LinkConfig(BrokerAddress.parse(url), **given), announcer)  # type: ignore[arg-type]


def announcer() -> Announcer:
    """A worker of a root of its own."""
    return Announcer("worker", "w1", (), Topics(unique("sb")))


def presence(message: Message) -> Presence:
    return decode_map(Presence, message.payload)
