"""A real broker, real drops: gone, back, cut in the middle, open but silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from benchmarks.shaper import PROFILES, Shaper
from broker.bus import Message
from broker.engines import RunningBroker, hold_port, start_broker
from broker.engines.probe import connect_packet
from broker.link import Link
from schemas.errors import BrokerUnavailableError, NotConnectedError
from tests.broker.helpers import PATIENCE_S, link_to, linked, payloads, soon, unique, until, until_connected

LARGE = bytes(60_000)
AGES_S = 3600.0
"""A time limit that no test can wait for: whatever waits for it fails."""


@pytest.fixture
async def line(mosquitto: RunningBroker) -> AsyncIterator[Shaper]:
    async with Shaper(mosquitto.host, mosquitto.port, PROFILES["LAN"]) as shaper:
        yield shaper


async def test_a_broker_that_appears_later_is_found(rumqttd: RunningBroker) -> None:
    with hold_port() as port:
        async with link_to(f"mqtt://127.0.0.1:{port}") as link:
            with pytest.raises(
                BrokerUnavailableError, match=r"no connection to mqtt://127.0.0.1:\d+ within 0.2 s .*refused"
            ):
                await link.wait_connected(0.2)
            async with Shaper(rumqttd.host, rumqttd.port, PROFILES["LAN"], port=port):
                await soon(link.wait_connected())
                await link.publish(Message(unique(), b"x", qos=1))


async def test_a_broker_that_is_killed_and_restarted_gets_its_subscriptions_back() -> None:
    async with start_broker() as broker, linked(broker.url) as link:
        topic = unique()
        async with link.subscribe(topic, qos=1) as subscription:
            await broker.kill()
            await until(lambda: not link.connected)
            with pytest.raises(NotConnectedError):
                await link.publish(Message(topic, b"lost"))
            await broker.restart()
            await soon(link.wait_connected())
            await link.publish(Message(topic, b"back", qos=1))
            assert await payloads(subscription, 1) == [b"back"]


async def test_a_cut_in_the_middle_of_a_publish_fails_it_before_its_time_limit(line: Shaper) -> None:
    async with linked(line.url, timeout_s=AGES_S) as link:
        line.stall()
        line.reset()
        publishing = asyncio.create_task(link.publish(Message(unique(), b"x", qos=1)))
        await until(lambda: line.totals().up > 0)
        await line.cut()
        with pytest.raises(NotConnectedError):
            await soon(publishing)


async def test_a_publish_without_acknowledgement_ends_at_its_time_limit(line: Shaper) -> None:
    async with linked(line.url, timeout_s=0.2) as link:
        line.stall()
        with pytest.raises(NotConnectedError, match=r"did not take .* within 0.2 s"):
            await soon(link.publish(Message(unique(), b"x", qos=1)))


async def test_a_silent_broker_is_noticed_by_the_keepalive(line: Shaper) -> None:
    async with linked(line.url, keepalive_s=1, timeout_s=1) as link:
        line.stall()
        await until(lambda: not link.connected)
        await line.heal()
        await soon(link.wait_connected())
        assert link.statistics().connects == 2


async def test_leaving_a_silent_broker_with_full_buffers_waits_for_no_time_limit(line: Shaper) -> None:
    async with asyncio.TaskGroup() as group:
        link = link_to(line.url, timeout_s=AGES_S)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(link)
            await link.wait_connected(PATIENCE_S)
            line.stall()
            tasks = [group.create_task(_publish_or_fail(link, Message(unique(), LARGE))) for _ in range(200)]
            await until(lambda: any(task.done() for task in tasks) and line.totals().up > len(LARGE))
            assert not all(task.done() for task in tasks)
            await soon(stack.aclose())
    assert any(not task.result() for task in tasks)


async def _publish_or_fail(link: Link, message: Message) -> bool:
    try:
        await link.publish(message)
    except NotConnectedError:
        return False
    return True


async def test_a_second_client_of_the_same_id_throws_the_first_out_and_it_comes_back(mosquitto: RunningBroker) -> None:
    name = unique("same")
    async with linked(mosquitto.url, client_id=name) as link:
        session = link.session
        reader, writer = await asyncio.open_connection(mosquitto.host, mosquitto.port)
        writer.write(connect_packet(name))
        await soon(until(lambda: link.session != session and link.connected))
        rest = await soon(reader.read())  # to the end: it was thrown out in its turn
        assert rest[0] == 0x20
        writer.close()
        await writer.wait_closed()


async def test_many_cuts_in_a_row_lose_no_subscription(rumqttd: RunningBroker) -> None:
    broker, topic = rumqttd, unique()
    async with (
        Shaper(broker.host, broker.port, PROFILES["LAN"]) as line,
        linked(line.url) as link,
        linked(broker.url) as sender,
        link.subscribe(topic, qos=1) as subscription,
    ):
        for number in range(5):
            await line.cut()
            await line.heal()
            await until_connected(link, number + 2)
            await sender.publish(Message(topic, b"%d" % number, qos=1))
            assert await payloads(subscription, 1) == [b"%d" % number]
