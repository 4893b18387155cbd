"""Shared groups, bounds, ends and counters of subscriptions."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from broker.bus import BusStatistics, Message, QoS, Subscription, SubscriptionStatistics
from tests.broker.contract.conftest import Buses
from tests.broker.helpers import payloads, publish_all, take, unique, until

BOTH = pytest.mark.parametrize("qos", [0, 1])


@BOTH
async def test_each_message_goes_to_exactly_one_member_of_a_group(buses: Buses, qos: QoS) -> None:
    sender = await buses.open()
    shared = f"$share/{unique('g')}/{buses.topic('w/+')}"
    first, second = await buses.open(), await buses.open()
    async with first.subscribe(shared, qos=qos) as one, second.subscribe(shared, qos=qos) as two:
        await publish_all(sender, [Message(buses.topic("w/x"), b"%d" % n, qos=qos) for n in range(100)])
        await until(lambda: one.statistics().received + two.statistics().received >= 100)
        shares = one.statistics().received, two.statistics().received
        got = Counter(await payloads(one, shares[0]) + await payloads(two, shares[1]))
    assert got == Counter(b"%d" % n for n in range(100))
    assert min(shares) > 0


async def test_groups_of_other_filters_do_not_share_messages(buses: Buses) -> None:
    bus = await buses.open()
    a, b = (f"$share/{unique(name)}/{buses.topic(name)}" for name in "ab")
    async with bus.subscribe(a) as of_a, bus.subscribe(b) as of_b:
        await bus.publish(Message(buses.topic("a"), b"1"))
        await bus.publish(Message(buses.topic("b"), b"2"))
        assert (await payloads(of_a, 1), await payloads(of_b, 1)) == ([b"1"], [b"2"])


async def test_the_group_goes_on_when_a_member_leaves(buses: Buses) -> None:
    sender, first, second = [await buses.open() for _ in range(3)]
    shared = f"$share/{unique('g')}/{buses.topic()}"
    async with second.subscribe(shared, qos=1) as rest:
        async with first.subscribe(shared, qos=1):
            pass
        for number in range(4):
            await sender.publish(Message(buses.topic(), b"%d" % number, qos=1))
        assert await payloads(rest, 4) == [b"0", b"1", b"2", b"3"]


@BOTH
async def test_a_full_queue_drops_the_newest_and_counts_it(buses: Buses, qos: QoS) -> None:
    bus = await buses.open()
    async with bus.subscribe(buses.topic(), qos=qos, limit=3) as subscription:
        await publish_all(bus, [Message(buses.topic(), b"%d" % n, qos=qos) for n in range(10)])
        await until(lambda: subscription.statistics().received == 10)
        assert subscription.statistics() == SubscriptionStatistics(received=10, dropped=7, waiting=3)
        assert await payloads(subscription, 3) == [b"0", b"1", b"2"]
        await bus.publish(Message(buses.topic(), b"after", qos=qos))
        assert await payloads(subscription, 1) == [b"after"]
    assert bus.statistics().unroutable == 0


async def test_the_same_filter_twice_is_refused_until_the_first_has_ended(buses: Buses) -> None:
    bus = await buses.open()
    async with bus.subscribe(buses.topic()):
        with pytest.raises(ValueError, match="subscribed"):
            async with bus.subscribe(buses.topic()):
                pytest.fail("it was granted")
    async with bus.subscribe(buses.topic()) as again:
        await bus.publish(Message(buses.topic(), b"x"))
        assert await payloads(again, 1) == [b"x"]


async def test_nothing_arrives_after_the_end_of_a_subscription(buses: Buses) -> None:
    bus = await buses.open()
    async with bus.subscribe(buses.topic("a"), qos=1) as ended:
        pass
    async with bus.subscribe(buses.topic("b"), qos=1) as other:
        await bus.publish(Message(buses.topic("a"), b"x", qos=1))
        await bus.publish(Message(buses.topic("b"), b"y", qos=1))
        await take(other, 1)
    assert ended.statistics().received == 0
    assert bus.statistics().received == 1


async def test_the_iteration_ends_with_its_context(buses: Buses) -> None:
    bus = await buses.open()

    async def read(subscription: Subscription) -> list[bytes]:
        return [delivery.message.payload async for delivery in subscription]

    async with bus.subscribe(buses.topic()) as subscription:
        reading = asyncio.create_task(read(subscription))
        await bus.publish(Message(buses.topic(), b"x"))
        await until(lambda: subscription.statistics().received == 1)
    async with asyncio.timeout(5):
        assert await reading == [b"x"]


async def test_the_bus_counts_what_it_publishes_and_receives(buses: Buses) -> None:
    sender, receiver = await buses.open(), await buses.open()
    async with receiver.subscribe(buses.topic(), qos=1) as subscription:
        for number in range(5):
            await sender.publish(Message(buses.topic(), b"%d" % number, qos=1))
        await take(subscription, 5)
    assert sender.statistics() == BusStatistics(connects=1, published=5, received=0, unroutable=0)
    assert receiver.statistics() == BusStatistics(connects=1, published=0, received=5, unroutable=0)
