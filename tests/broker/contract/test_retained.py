"""Retained messages: what a newcomer gets, how a topic is cleared."""

from __future__ import annotations

from broker.bus import Message
from tests.broker.contract.conftest import Buses
from tests.broker.helpers import take


async def test_a_new_subscription_first_gets_the_last_retained_message_of_each_topic(buses: Buses) -> None:
    bus = await buses.open()
    for topic, payload in [("a", b"old"), ("a", b"new"), ("b", b"other")]:
        await bus.publish(Message(buses.topic(topic), payload, qos=1, retain=True))
    async with bus.subscribe(buses.topic("+"), qos=1) as subscription:
        first = await take(subscription, 2)
        await bus.publish(Message(buses.topic("a"), b"live", qos=1))
        (live,) = await take(subscription, 1)
    assert {(m.topic, m.payload, m.retain) for m in first} == {
        (buses.topic("a"), b"new", True),
        (buses.topic("b"), b"other", True),
    }
    assert (live.payload, live.retain) == (b"live", False)


async def test_who_is_subscribed_already_gets_it_as_an_ordinary_message(buses: Buses) -> None:
    bus = await buses.open()
    async with bus.subscribe(buses.topic(), qos=1) as subscription:
        await bus.publish(Message(buses.topic(), b"x", qos=1, retain=True))
        (message,) = await take(subscription, 1)
    assert not message.retain


async def test_an_empty_payload_clears_the_topic(buses: Buses) -> None:
    bus = await buses.open()
    await bus.publish(Message(buses.topic(), b"x", qos=1, retain=True))
    await bus.publish(Message(buses.topic(), b"", qos=1, retain=True))
    async with bus.subscribe(buses.topic(), qos=1) as subscription:
        await bus.publish(Message(buses.topic(), b"after", qos=1))
        (message,) = await take(subscription, 1)
    assert message.payload == b"after"


async def test_an_ordinary_message_leaves_the_retained_one_alone(buses: Buses) -> None:
    bus = await buses.open()
    await bus.publish(Message(buses.topic(), b"kept", qos=1, retain=True))
    await bus.publish(Message(buses.topic(), b"passing", qos=1))
    async with bus.subscribe(buses.topic(), qos=1) as subscription:
        (message,) = await take(subscription, 1)
    assert message.payload == b"kept"


async def test_retained_messages_keep_their_properties(buses: Buses) -> None:
    bus = await buses.open()
    await bus.publish(Message(buses.topic(), b"x", qos=1, retain=True, correlation=b"12345678"))
    async with bus.subscribe(buses.topic(), qos=1) as subscription:
        (message,) = await take(subscription, 1)
    assert message.correlation == b"12345678"


async def test_retained_messages_outlive_their_publisher(buses: Buses) -> None:
    sender, receiver = await buses.open(), await buses.open()
    await sender.publish(Message(buses.topic(), b"x", qos=1, retain=True))
    await buses.close(sender)
    async with receiver.subscribe(buses.topic(), qos=1) as subscription:
        (message,) = await take(subscription, 1)
    assert message.payload == b"x"


async def test_a_shared_subscription_gets_no_retained_messages(buses: Buses) -> None:
    bus = await buses.open()
    await bus.publish(Message(buses.topic(), b"retained", qos=1, retain=True))
    group = buses.topic().replace("/", "-")
    async with bus.subscribe(f"$share/{group}/{buses.topic()}", qos=1) as subscription:
        await bus.publish(Message(buses.topic(), b"live", qos=1))
        (message,) = await take(subscription, 1)
    assert message.payload == b"live"
