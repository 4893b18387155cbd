"""A broker that does exactly what a test says, also what no honest broker would: real sockets, real bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 4, 8, 10, 12, 14


def connack(properties: bytes = b"", code: int = 0) -> bytes:
    return bytes((0x20, 3 + len(properties), 0, code, len(properties))) + properties


def maximum_packet_size(size: int) -> bytes:
    return b"\x27" + size.to_bytes(4, "big")


def receive_maximum(count: int) -> bytes:
    return b"\x21" + count.to_bytes(2, "big")


@dataclass(slots=True)
class Peer:
    """One connection, as the broker sees it; `number` counts from 0."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: list[int] = field(default_factory=list)

    async def packet(self) -> tuple[int, int, bytes]:
        """Kind, flags and body of the next packet. Raises IncompleteReadError at the end."""
        head = (await self.reader.readexactly(1))[0]
        length = shift = 0
        while (byte := (await self.reader.readexactly(1))[0]) & 0x80:
            length |= (byte & 0x7F) << shift
            shift += 7
        body = await self.reader.readexactly(length | byte << shift)
        self.seen.append(head >> 4)
        return head >> 4, head & 15, body

    async def accept(self, properties: bytes = b"") -> None:
        kind, _, _ = await self.packet()
        assert kind == CONNECT
        self.writer.write(connack(properties))

    async def serve(self, refuse: frozenset[str] = frozenset()) -> None:
        """Grant, acknowledge and answer pings until the end; topics and filters in `refuse` get 0x87."""
        while True:
            self.answer(*await self.packet(), refuse)

    def answer(self, kind: int, flags: int, body: bytes, refuse: frozenset[str] = frozenset()) -> None:
        if kind == SUBSCRIBE:
            name = body[5 : 5 + int.from_bytes(body[3:5], "big")].decode()
            self.writer.write(bytes((0x90, 4)) + body[:2] + bytes((0, 0x87 if name in refuse else body[-1] & 1)))
        elif kind == UNSUBSCRIBE:
            self.writer.write(bytes((0xB0, 4)) + body[:2] + bytes((0, 0)))
        elif kind == PUBLISH and flags & 2:
            end = 2 + int.from_bytes(body[:2], "big")
            code = b"\x87\x00" if body[2:end].decode() in refuse else b""
            self.writer.write(bytes((0x40, 2 + len(code))) + body[end : end + 2] + code)
        elif kind == PINGREQ:
            self.writer.write(b"\xd0\x00")


@dataclass(slots=True)
class Scripted:
    """Where it listens, who came, and who has gone."""

    url: str
    peers: list[Peer] = field(default_factory=list)
    gone: list[Peer] = field(default_factory=list)


@asynccontextmanager
async def scripted(script: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[Scripted]:
    """Run `script` for each connection; when it returns the connection is closed."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(peer: Peer) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            await script(peer)
        peer.writer.close()
        with suppress(OSError):
            await peer.writer.wait_closed()
        broker.gone.append(peer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker.peers.append(Peer(len(broker.peers), reader, writer))
        tasks.add(asyncio.create_task(run(broker.peers[-1])))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    broker = Scripted(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server:
        yield broker
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        for peer in broker.peers:
            peer.writer.close()
