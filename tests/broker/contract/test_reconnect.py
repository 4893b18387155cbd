"""Births, wills, session stamps, and what a reconnect restores."""

from __future__ import annotations

import asyncio

import pytest

from broker.bus import Message
from schemas.errors import NotConnectedError
from schemas.messages import PresenceState
from tests.broker.contract.conftest import Buses
from tests.broker.helpers import announcer, payloads, presence, take

ONLINE, OFFLINE = PresenceState.ONLINE, PresenceState.OFFLINE


async def test_a_birth_carries_the_session_and_is_retained(buses: Buses) -> None:
    worker = announcer()
    bus, watcher = await buses.open(worker), await buses.open()
    async with watcher.subscribe(worker.topics.presence_of_all("worker"), qos=1) as subscription:
        (message,) = await take(subscription, 1)
    birth = presence(message)
    assert (birth.state, birth.session, message.retain) == (ONLINE, bus.session, True)


async def test_a_cut_connection_publishes_the_will_of_its_session(buses: Buses) -> None:
    worker = announcer()
    bus, watcher = await buses.open(worker), await buses.open()
    session = bus.session
    async with watcher.subscribe(worker.topics.presence_of_all("worker"), qos=1) as subscription:
        await take(subscription, 1)
        await buses.cut(bus)
        death = presence((await take(subscription, 1))[0])
        assert (death.state, death.session) == (OFFLINE, session)
        await buses.heal(bus)
        birth = presence((await take(subscription, 1))[0])
    assert (birth.state, birth.session) == (ONLINE, bus.session)
    assert bus.session != session


async def test_the_will_is_retained_for_those_who_come_later(buses: Buses) -> None:
    worker = announcer()
    bus, watcher = await buses.open(worker), await buses.open()
    async with watcher.subscribe(worker.topics.presence("worker", "w1"), qos=1) as subscription:
        await take(subscription, 1)
        await buses.cut(bus)
        await take(subscription, 1)
    async with watcher.subscribe(worker.topics.presence("worker", "w1"), qos=1) as subscription:
        (message,) = await take(subscription, 1)
    assert (presence(message).state, message.retain) == (OFFLINE, True)


async def test_who_leaves_in_order_leaves_no_will(buses: Buses) -> None:
    worker = announcer()
    bus, watcher = await buses.open(worker), await buses.open()
    async with watcher.subscribe(worker.topics.presence_of_all("worker"), qos=1) as subscription:
        await take(subscription, 1)
        await buses.close(bus)
        await buses.open(worker)  # a will of the first would come before the birth of the second
        message = presence((await take(subscription, 1))[0])
    assert message.state == ONLINE


async def test_subscriptions_are_restored_before_the_birth_is_published(buses: Buses) -> None:
    worker = announcer()
    bus = await buses.open(worker)
    async with bus.subscribe(worker.topics.presence("worker", "w1"), qos=1) as own:
        await take(own, 1)
        await buses.cut(bus)
        await buses.heal(bus)
        (message,) = await take(own, 1)
        while message.retain:  # the will, or the last birth where the broker noticed the end late
            (message,) = await take(own, 1)
    assert presence(message).session == bus.session


async def test_several_subscriptions_go_on_after_a_reconnect(buses: Buses) -> None:
    bus, other = await buses.open(), await buses.open()
    async with bus.subscribe(buses.topic("a"), qos=1) as a, bus.subscribe(buses.topic("b/+"), qos=1) as b:
        await buses.cut(bus)
        await buses.heal(bus)
        await other.publish(Message(buses.topic("a"), b"1", qos=1))
        await other.publish(Message(buses.topic("b/c"), b"2", qos=1))
        assert (await payloads(a, 1), await payloads(b, 1)) == ([b"1"], [b"2"])


async def test_a_subscription_that_begins_while_down_works_once_up(buses: Buses) -> None:
    bus = await buses.open()
    await buses.cut(bus)
    async with bus.subscribe(buses.topic(), qos=1) as subscription:
        await buses.heal(bus)
        await bus.publish(Message(buses.topic(), b"x", qos=1))
        assert await payloads(subscription, 1) == [b"x"]


async def test_a_subscription_that_ended_while_down_is_not_restored(buses: Buses) -> None:
    bus = await buses.open()
    async with bus.subscribe(buses.topic("ended"), qos=1):
        await buses.cut(bus)
    async with bus.subscribe(buses.topic("other"), qos=1) as subscription:
        await buses.heal(bus)
        await bus.publish(Message(buses.topic("ended"), b"x", qos=1))
        await bus.publish(Message(buses.topic("other"), b"y", qos=1))
        assert await payloads(subscription, 1) == [b"y"]
    assert (bus.statistics().received, bus.statistics().unroutable) == (1, 0)


async def test_publishing_while_down_is_an_error_and_waits_for_nothing(buses: Buses) -> None:
    bus = await buses.open()
    await buses.cut(bus)
    assert not bus.connected
    async with asyncio.timeout(0.5):
        for qos in (0, 1):
            with pytest.raises(NotConnectedError):
                await bus.publish(Message(buses.topic(), b"x", qos=qos))
    await buses.heal(bus)
    await bus.publish(Message(buses.topic(), b"x", qos=1))


async def test_every_connection_has_a_stamp_of_its_own(buses: Buses) -> None:
    bus = await buses.open()
    stamps = {bus.session}
    for _ in range(3):
        await buses.cut(bus)
        await buses.heal(bus)
        stamps.add(bus.session)
    assert len(stamps - {""}) == 4
    assert bus.statistics().connects == 4
