"""What a link does with brokers that misbehave, refuse, or set limits."""

from __future__ import annotations

import asyncio

import pytest

from broker.bus import Message
from broker.link import Link
from tests.broker.helpers import announcer, link_to, linked, soon, until
from tests.broker.link.scripted import (
    DISCONNECT,
    SUBSCRIBE,
    Peer,
    scripted,
)


async def test_a_broker_that_accepts_and_closes_at_once_is_tried_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        if peer.number:
            await peer.serve()

    async with scripted(script) as broker, link_to(broker.url) as link:
        await until(lambda: len(broker.peers) == 2 and link.connected)
        await soon(link.publish(Message("t", b"x", qos=1)), 2)


async def test_a_connection_that_breaks_while_it_is_restored_is_tried_again_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        if peer.number == 0:
            await peer.packet()
            return
        await peer.serve()

    async with scripted(script) as broker, link_to(broker.url, announcer()) as link, link.subscribe("a", qos=1):
        await soon(link.wait_connected(), 2)
        assert broker.peers[1].seen[:2] == [1, SUBSCRIBE]


async def test_a_subscription_that_begins_while_others_are_restored_is_not_forgotten() -> None:
    held, release = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        first = await peer.packet()
        held.set()
        await release.wait()
        peer.answer(*first)
        await peer.serve()

    async with scripted(script) as broker, link_to(broker.url) as link, link.subscribe("a"):
        await soon(held.wait())
        entering = asyncio.create_task(_subscribe_for_a_moment(link, "b"))
        await asyncio.sleep(0)
        release.set()
        await soon(entering)
        await soon(link.wait_connected())
        assert broker.peers[0].seen.count(SUBSCRIBE) == 2


async def _subscribe_for_a_moment(link: Link, topic_filter: str) -> None:
    async with link.subscribe(topic_filter):
        pass


async def test_a_connection_that_breaks_while_subscribing_is_restored_with_the_new_filter() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        if peer.number == 0:
            await peer.packet()
            return
        await peer.serve()

    async with scripted(script) as broker, linked(broker.url) as link, link.subscribe("a"):
        await until(lambda: link.statistics().connects == 2)
        assert SUBSCRIBE in broker.peers[1].seen


async def test_an_attempt_without_an_answer_leaves_no_connection_behind() -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.packet()

    async with scripted(script) as broker, link_to(broker.url, timeout_s=0.1):
        await until(lambda: len(broker.gone) >= 3)
        assert all(peer.seen == [1, DISCONNECT] for peer in broker.gone)


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20])
async def test_leaving_in_the_middle_of_connecting_leaves_no_connection_behind(turns: int) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.packet()

    async with scripted(script) as broker:
        async with link_to(broker.url, timeout_s=0.2):
            for _ in range(turns):
                await asyncio.sleep(0)
        await until(lambda: len(broker.gone) == len(broker.peers))
