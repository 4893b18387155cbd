"""What a stranger writes into the properties of a message ends nobody's connection."""

from __future__ import annotations

import asyncio

import pytest

from broker.bus import Message
from broker.engines import EngineName, start_broker
from broker.packets import varint
from tests.broker.helpers import linked, take, unique
from tests.engines import ENGINES, need

CONNECT = bytes.fromhex("10 10 0004 4d515454 05 02 003c 00 0003") + b"evl"


async def publish_raw(port: int, topic: str, properties: bytes, payload: bytes) -> None:
    """A retained PUBLISH with these properties, from a client without any manners."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + varint(len(properties)) + properties + payload
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(CONNECT)
    header = await reader.readexactly(2)
    await reader.readexactly(header[1])
    writer.write(b"\x31" + varint(len(body)) + body + b"\xc0\x00")
    header = await reader.readexactly(2)
    assert header == b"\xd0\x00", "the broker refused it"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_retained_message_with_odd_properties_is_read_and_the_link_stays(engine: EngineName) -> None:
    async with start_broker(need(engine)) as broker:
        topic = unique()
        await publish_raw(broker.port, topic, b"\x01\x09", b"evil")
        async with linked(broker.url) as link, link.subscribe(topic) as subscription:
            assert [message.payload for message in await take(subscription, 1)] == [b"evil"]
            await link.publish(Message(topic, b"good"))
            assert [message.payload for message in await take(subscription, 1)] == [b"good"]
            assert link.statistics().connects == 1
