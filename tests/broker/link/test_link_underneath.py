"""What a link does to the client, the socket and the loop underneath."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable

import aiomqtt
import pytest
import uvloop
from blockbuster import blockbuster_ctx

from benchmarks.shaper import PROFILES, Shaper
from broker import connection as module
from broker.bus import Message
from broker.engines import RunningBroker
from broker.link import Link
from tests.broker.helpers import announcer, linked, payloads, publish_all, take_unacknowledged, unique, until_connected

LOOPS = pytest.mark.parametrize(
    ("factory", "debug"),
    [(asyncio.new_event_loop, True), (uvloop.new_event_loop, False), (uvloop.new_event_loop, True)],
    ids=["asyncio-debug", "uvloop", "uvloop-debug"],
)


async def test_the_private_names_that_the_link_reaches_into_exist() -> None:
    client = aiomqtt.Client("localhost", protocol=aiomqtt.ProtocolVersion.V5)
    assert [name for name in module.REACH if not hasattr(client, name)] == []
    assert [name for name in module.PAHO_REACH if not hasattr(client._client, name)] == []
    assert isinstance(client._disconnected, asyncio.Future)
    assert callable(client._client.on_connect)


async def test_small_packets_leave_at_once(mosquitto: RunningBroker) -> None:
    async with linked(mosquitto.url) as link:
        assert _socket(link).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def _socket(link: Link) -> socket.socket:
    assert link._connection is not None
    found = link._connection._paho.socket()
    assert isinstance(found, socket.socket)
    return found


async def test_a_qos_0_publish_is_written_before_it_returns(mosquitto: RunningBroker) -> None:
    async with linked(mosquitto.url) as link:
        publishing = link.publish(Message(unique(), b"x"))
        with pytest.raises(StopIteration):  # it never had to wait
            publishing.send(None)


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_the_loop_rests_after_a_write(mosquitto: RunningBroker, size: int) -> None:
    loop = asyncio.get_running_loop()
    turns = 0
    selector = loop._selector  # type: ignore[attr-defined]
    select = selector.select

    def counting(timeout: float | None = None) -> object:
        nonlocal turns
        turns += 1
        return select(timeout)

    topic = unique()
    async with linked(mosquitto.url) as link, link.subscribe(topic, qos=1) as subscription:
        await publish_all(link, [Message(topic, bytes(size), qos=qos) for qos in (0, 1)])
        await payloads(subscription, 2)
        selector.select = counting
        await _event_after(0.2)
        selector.select = select
    assert turns < 20


async def _event_after(delay_s: float) -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(delay_s, event.set)
    await event.wait()


async def test_acknowledgements_leave_in_order_though_the_work_ends_out_of_order(rumqttd: RunningBroker) -> None:
    topic = unique()
    async with linked(rumqttd.url) as sender, linked(rumqttd.url) as link, link.subscribe(topic, qos=1) as subscription:
        for _ in range(3):
            await publish_all(sender, [Message(topic, b"x", qos=1) for _ in range(30)])
            deliveries = await take_unacknowledged(subscription, 30)
            for delivery in deliveries[1::2] + deliveries[::2]:
                delivery.ack()
        await sender.publish(Message(topic, b"last", qos=1))
        assert await payloads(subscription, 1) == [b"last"]
        assert link.statistics().connects == 1


async def test_an_acknowledgement_of_an_earlier_connection_is_not_sent(rumqttd: RunningBroker) -> None:
    topic = unique()
    async with (
        Shaper(rumqttd.host, rumqttd.port, PROFILES["LAN"]) as line,
        linked(line.url) as link,
        link.subscribe(topic, qos=1) as subscription,
    ):
        await link.publish(Message(topic, b"old", qos=1))
        (old,) = await take_unacknowledged(subscription, 1)
        await line.cut()
        await line.heal()
        await until_connected(link, 2)
        await link.publish(Message(topic, b"new", qos=1))
        (new,) = await take_unacknowledged(subscription, 1)
        old.ack()
        new.ack()
        await link.publish(Message(topic, b"after", qos=1))
        assert await payloads(subscription, 1) == [b"after"]
        assert link.statistics().connects == 2


async def test_nothing_in_a_link_blocks_the_loop(mosquitto: RunningBroker) -> None:
    topic = unique()
    with blockbuster_ctx():
        async with linked(mosquitto.url, announcer()) as link, link.subscribe(topic, qos=1) as subscription:
            with pytest.raises(Exception, match="Blocking call"):
                os.stat("/")  # noqa: PTH116 - shows that the detector is on
            await publish_all(link, [Message(topic, bytes(50_000), qos=1) for _ in range(20)])
            await payloads(subscription, 20)
            assert link.statistics().connects == 1


@LOOPS
def test_a_link_leaves_nothing_behind_on_any_loop(
    mosquitto: RunningBroker,
    caplog: pytest.LogCaptureFixture,
    factory: Callable[[], asyncio.AbstractEventLoop],
    debug: bool,  # noqa: FBT001 - a parameter of the matrix
) -> None:
    complaints: list[dict[str, object]] = []
    with caplog.at_level(logging.ERROR), asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        runner.run(_one_life(mosquitto))
    assert complaints == []
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


async def _one_life(broker: RunningBroker) -> None:
    before = asyncio.all_tasks()
    topic = unique()
    async with Shaper(broker.host, broker.port, PROFILES["LAN"]) as line:
        async with linked(line.url, announcer()) as link, link.subscribe(topic, qos=1) as subscription:
            for connects in (1, 2):
                await until_connected(link, connects)
                await publish_all(link, [Message(topic, bytes(50_000), qos=qos) for qos in (0, 1)])
                await payloads(subscription, 2)
                file = _socket(link).fileno()
                await line.cut() if connects == 1 else None
                await line.heal()
        used = time.process_time()
        await _event_after(0.2)
        assert time.process_time() - used < 0.1, "something spins"
    loop = asyncio.get_running_loop()
    assert not loop.remove_reader(file)
    assert not loop.remove_writer(file)
    assert asyncio.all_tasks() - before == set()
