"""What brokers refuse or limit, by what they say in CONNACK, SUBACK and PUBACK."""

from __future__ import annotations

import asyncio

import pytest

from broker.address import BrokerAddress
from broker.bus import Message
from broker.connection import LinkConfig, open_connection
from broker.packets import publish_size
from schemas.errors import BrokerRefusedError, TooLargeError
from tests.broker.helpers import announcer, link_to, linked, soon, unique, until
from tests.broker.link.scripted import PUBLISH, Peer, connack, maximum_packet_size, receive_maximum, scripted


async def test_a_message_over_the_brokers_limit_is_refused_before_it_is_sent() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(maximum_packet_size(200))
        await peer.serve()

    async with scripted(script) as broker, linked(broker.url) as link:
        fits = Message("t", bytes(200 - publish_size(Message("t", b"", qos=1)) - 1), qos=1)
        assert publish_size(fits) == 200
        await link.publish(fits)
        with pytest.raises(TooLargeError, match="the packet for t has 201 bytes, the cap is 200; raise"):
            await link.publish(Message("t", fits.payload + b"x", qos=1))
        assert broker.peers[0].seen.count(PUBLISH) == 1
        assert link.connected


async def test_no_more_publishes_are_under_way_than_the_broker_wants() -> None:
    waiting: list[tuple[int, int, bytes]] = []

    async def script(peer: Peer) -> None:
        await peer.accept(receive_maximum(3))
        for _ in range(10):
            waiting.append(await peer.packet())
            if len(waiting) == 3:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(peer.reader.read(1), 0.05)
            peer.answer(*waiting[-1]) if len(waiting) > 3 else None
            if len(waiting) == 3:
                for packet in waiting:
                    peer.answer(*packet)
        await peer.serve()

    async with scripted(script) as broker, linked(broker.url) as link, asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(link.publish(Message("t", b"x", qos=1)))


@pytest.mark.parametrize("code", [0x81, 0x85, 0x86, 0x87, 0x8A, 0x8C])
async def test_a_refusal_for_good_is_an_error_with_the_brokers_reason(code: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.packet()
        peer.writer.write(connack(code=code))

    async with scripted(script) as broker, link_to(broker.url, client_id="node-7") as link:
        with pytest.raises(BrokerRefusedError, match="refused to accept 'node-7'") as caught:
            await soon(link.wait_connected(), 2)
    assert caught.value.code == code


async def test_a_broker_that_is_busy_is_tried_again() -> None:
    async def script(peer: Peer) -> None:
        if peer.number < 2:
            await peer.packet()
            peer.writer.write(connack(code=0x89))
            return
        await peer.accept()
        await peer.serve()

    async with scripted(script) as broker, link_to(broker.url) as link:
        await soon(link.wait_connected())
        assert len(broker.peers) == 3


async def test_a_filter_that_is_not_granted_is_an_error_and_leaves_the_rest_alone() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.serve(refuse=frozenset({"secret"}))

    async with scripted(script) as broker, linked(broker.url) as link, link.subscribe("open"):
        with pytest.raises(BrokerRefusedError, match="refused to subscribe secret: Not authorized") as caught:
            async with asyncio.timeout(5), link.subscribe("secret"):
                pytest.fail("it was granted")
        assert caught.value.code == 0x87
        assert link.connected
        async with link.subscribe("other"):
            pass


async def test_a_filter_that_is_not_granted_at_the_first_connection_is_an_error_of_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.serve(refuse=frozenset({"secret"}))

    async with scripted(script) as broker, link_to(broker.url) as link, link.subscribe("secret"):
        with pytest.raises(BrokerRefusedError, match="subscribe secret"):
            await soon(link.wait_connected(), 2)


async def test_a_birth_that_is_not_taken_is_an_error_of_the_first_connection() -> None:
    worker = announcer()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.serve(refuse=frozenset({worker.topics.presence("worker", "w1")}))

    async with scripted(script) as broker, link_to(broker.url, worker) as link:
        with pytest.raises(BrokerRefusedError, match="take a message to"):
            await soon(link.wait_connected(), 2)


async def test_a_link_that_is_refused_comes_up_when_it_is_let_in_and_forgets_the_refusal() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.packet()
            peer.writer.write(connack(code=0x86))
            return
        await peer.accept()
        await peer.serve()

    async with scripted(script) as broker, link_to(broker.url) as link:
        with pytest.raises(BrokerRefusedError):
            await soon(link.wait_connected(), 2)
        await until(lambda: link.connected)
        await soon(link.wait_connected(), 2)
        await link.publish(Message(unique(), b"x", qos=1))


async def test_a_refusal_that_comes_just_as_the_attempt_is_given_up_raises_nothing() -> None:
    raised: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    arrived = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        await peer.packet()
        arrived.set_result(peer)
        await peer.serve()

    async with scripted(script) as broker:
        connecting = asyncio.create_task(_connect(broker.url))
        peer = await soon(arrived)
        peer.writer.write(connack(code=0x87))  # a socket with room takes it at once
        connecting.cancel()
        await soon(asyncio.wait({connecting}))
        assert connecting.cancelled()
    assert raised == []


async def _connect(url: str) -> None:
    config = LinkConfig(BrokerAddress.parse(url), "late")
    async with open_connection(config, None, lambda _message, _ack: None):
        pass
