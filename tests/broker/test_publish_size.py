"""The size of a PUBLISH is that of the bytes on the socket."""

from __future__ import annotations

import asyncio

import pytest

from broker.bus import Message
from broker.packets import publish_size
from tests.broker.helpers import linked
from tests.broker.link.scripted import PUBLISH, Peer, scripted

MESSAGES = [
    Message("t", b""),
    Message("t", b"x", qos=1),
    Message("t", b"x", retain=True),
    Message("sb/w/model/1.0/node", bytes(1000), correlation=bytes(8), expiry_s=1),
    Message("sb/r/node", bytes(40), correlation=bytes(8)),
    Message("t", b"x", response_topic="sb/r/nöde", expiry_s=0xFFFFFFFF),
    Message("tøpic/" + "x" * 200, bytes(10), correlation=bytes(200)),
    *(Message("t", bytes(size), qos=1) for size in (118, 119, 120, 121, 122, 123, 124)),
    *(Message("t", bytes(size)) for size in (16_378, 16_379, 16_380, 16_381, 65_536, 2_097_146, 2_097_150)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: f"{message.topic[:8]}-{len(message.payload)}")
async def test_the_size_is_what_the_broker_reads(message: Message) -> None:
    sizes: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        counted = 0
        read = peer.reader.readexactly

        async def counting(n: int) -> bytes:
            nonlocal counted
            counted += n
            return await read(n)

        peer.reader.readexactly = counting  # type: ignore[method-assign]
        while True:
            packet = await peer.packet()
            if packet[0] == PUBLISH:
                sizes.append(counted)
                arrived.set()
            counted = 0
            peer.answer(*packet)

    arrived = asyncio.Event()
    async with scripted(script) as broker, linked(broker.url) as link:
        await link.publish(message)
        async with asyncio.timeout(5):
            await arrived.wait()
    assert sizes == [publish_size(message)]
