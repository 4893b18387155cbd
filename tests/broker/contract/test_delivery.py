"""What arrives is what was published: order, QoS, properties, sizes."""

from __future__ import annotations

import asyncio

import pytest

from broker.bus import Message, QoS
from tests.broker.contract.conftest import Buses
from tests.broker.helpers import payloads, publish_all, soon, take, take_unacknowledged

BOTH = pytest.mark.parametrize("qos", [0, 1])


@BOTH
async def test_messages_of_one_publisher_arrive_in_order(buses: Buses, qos: QoS) -> None:
    sender, receiver = await buses.open(), await buses.open()
    async with receiver.subscribe(buses.topic(), qos=qos) as subscription:
        sent = [b"%d" % number for number in range(20)]
        for payload in sent:
            await sender.publish(Message(buses.topic(), payload, qos=qos))
        assert await payloads(subscription, 20) == sent


@BOTH
async def test_two_thousand_messages_arrive_complete_and_in_order(buses: Buses, qos: QoS) -> None:
    sender, receiver = await buses.open(), await buses.open()
    sent = [b"%d" % number for number in range(2000)]
    async with receiver.subscribe(buses.topic(), qos=qos, limit=2000) as subscription:
        reading = asyncio.create_task(payloads(subscription, 2000))
        await publish_all(sender, [Message(buses.topic(), payload, qos=qos) for payload in sent])
        assert await reading == sent
        assert subscription.statistics().dropped == 0


@pytest.mark.parametrize(("published", "subscribed", "delivered"), [(0, 0, 0), (1, 0, 0), (1, 1, 1)])
async def test_a_delivery_never_has_more_than_the_qos_of_its_subscription(
    buses: Buses, published: QoS, subscribed: QoS, delivered: QoS
) -> None:
    bus = await buses.open()
    async with bus.subscribe(buses.topic(), qos=subscribed) as subscription:
        await bus.publish(Message(buses.topic(), b"x", qos=published))
        (message,) = await take(subscription, 1)
    assert message.qos == delivered  # (0, 1) is left out: rumqttd makes it 1


async def test_topic_payload_and_properties_survive(buses: Buses) -> None:
    sender, receiver = await buses.open(), await buses.open()
    correlation = bytes(range(8))
    async with receiver.subscribe(buses.topic()) as subscription:
        await sender.publish(
            Message(buses.topic(), b"x", correlation=correlation, response_topic="sb/r/node", expiry_s=30)
        )
        (message,) = await take(subscription, 1)
    assert (message.topic, message.payload, message.retain) == (buses.topic(), b"x", False)
    assert (message.correlation, message.response_topic) == (correlation, "sb/r/node")
    assert message.expiry_s is not None
    assert 0 < message.expiry_s <= 30


async def test_a_message_without_properties_arrives_without(buses: Buses) -> None:
    bus = await buses.open()
    async with bus.subscribe(buses.topic()) as subscription:
        await bus.publish(Message(buses.topic(), b""))
        (message,) = await take(subscription, 1)
    assert message == Message(buses.topic(), b"")


@BOTH
@pytest.mark.parametrize("payload", [bytes(range(256)), b"\x00", b"", bytes(range(256)) * 234], ids=len)
async def test_any_bytes_of_any_size_arrive_unchanged(buses: Buses, payload: bytes, qos: QoS) -> None:
    sender, receiver = await buses.open(), await buses.open()
    async with receiver.subscribe(buses.topic(), qos=qos) as subscription:
        for _ in range(3):
            await sender.publish(Message(buses.topic(), payload, qos=qos))
        assert await payloads(subscription, 3) == [payload] * 3


@pytest.mark.parametrize(
    ("topic_filter", "topic", "other"),
    [("a/+", "a/b", "b/a"), ("a/#", "a/b/c", "b"), ("a/b", "a/b", "a/bb"), ("+/b", "a/b", "a/c")],
)
async def test_a_filter_takes_what_it_matches_and_nothing_else(
    buses: Buses, topic_filter: str, topic: str, other: str
) -> None:
    bus = await buses.open()
    async with bus.subscribe(buses.topic(topic_filter)) as subscription:
        await bus.publish(Message(buses.topic(other), b"wrong"))
        await bus.publish(Message(buses.topic(topic), b"right"))
        (message,) = await take(subscription, 1)
    assert (message.topic, message.payload) == (buses.topic(topic), b"right")


async def test_deliveries_wait_for_work_that_ends_in_any_order(buses: Buses) -> None:
    sender, receiver = await buses.open(), await buses.open()
    async with receiver.subscribe(buses.topic(), qos=1) as subscription:
        await publish_all(sender, [Message(buses.topic(), b"%d" % n, qos=1) for n in range(40)])
        deliveries = await take_unacknowledged(subscription, 40)
        for delivery in reversed(deliveries):
            delivery.ack()
            delivery.ack()
        await sender.publish(Message(buses.topic(), b"after", qos=1))
        assert await payloads(subscription, 1) == [b"after"]
    assert receiver.statistics().connects == 1


async def test_an_unacknowledged_delivery_holds_no_other_subscriber_back(buses: Buses) -> None:
    slow, other = await buses.open(), await buses.open()
    async with slow.subscribe(buses.topic(), qos=1) as stuck, other.subscribe(buses.topic(), qos=1) as subscription:
        for number in range(100):
            await soon(other.publish(Message(buses.topic(), b"%d" % number, qos=1)))
        assert await payloads(subscription, 100) == [b"%d" % number for number in range(100)]
        await take_unacknowledged(stuck, 1)
