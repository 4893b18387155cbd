"""One connection through the emulated link: a node's socket, the broker's socket, a line each way."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Self

from benchmarks.line import End, Line
from benchmarks.links import LinkProfile, Traffic

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ShapedConnection:
    """Carries bytes both ways until both ends have finished or one is reset.

    Half-closes and resets arrive in their place in the stream. While `flow` is not set, both ends
    stay open and nothing arrives.
    """

    def __init__(self, profile: LinkProfile, flow: asyncio.Event, node: Stream) -> None:
        self.node = node
        self._up = Line(profile.up)
        self._down = Line(profile.down)
        self._flow = flow

    def set_profile(self, profile: LinkProfile) -> None:
        """Use another profile for what is sent from now on."""
        self._up.direction, self._down.direction = profile.up, profile.down

    def traffic(self) -> Traffic:
        """Count what has entered the link since the start or the last `reset`."""
        return Traffic(self._up.entered, self._down.entered, 1)

    def reset(self) -> None:
        """Count from zero."""
        self._up.entered = self._down.entered = 0

    async def carry(self, upstream: tuple[str, int]) -> None:
        """Connect to the upstream and run to the end; when cancelled, or when either end fails, both are reset."""
        try:
            async with self.node as node, await Stream.connect(*upstream) as broker, asyncio.TaskGroup() as group:
                group.create_task(_enter(node, self._up), name="up: enter")
                group.create_task(self._leave(self._up, broker), name="up: leave")
                group.create_task(_enter(broker, self._down), name="down: enter")
                group.create_task(self._leave(self._down, node), name="down: leave")
        except* OSError:
            pass  # the other end has been told by a reset

    async def _leave(self, line: Line, stream: Stream) -> None:
        while (item := await line.get()) is not End.FINISHED:
            await self._flow.wait()
            if isinstance(item, End):
                raise ConnectionResetError(item.value)
            await stream.send(item)
        await self._flow.wait()
        stream.half_close()


class Stream:
    """A TCP connection with TCP_NODELAY on this side; as a context, closed at its end, by a reset on an exception."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer
        self._set_option(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        """Open a connection. Raises OSError when nobody listens."""
        return cls(*await asyncio.open_connection(host, port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """Wait until the socket is closed."""
        if kind is not None:
            self.reset()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def send(self, data: bytes) -> None:
        """Write, waiting while the other side does not read. Raises OSError when the connection is gone."""
        self._writer.write(data)
        await self._writer.drain()

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        with suppress(OSError):
            self._writer.write_eof()

    def reset(self) -> None:
        """Close at once by a reset, losing what has not been sent."""
        if not self._writer.is_closing():
            self._set_option(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._writer.transport.abort()

    def _set_option(self, level: int, option: int, value: int | bytes) -> None:
        with suppress(OSError):  # the other side may have closed it already
            self._writer.get_extra_info("socket").setsockopt(level, option, value)


async def _enter(stream: Stream, line: Line) -> None:
    try:
        while data := await stream.reader.read(line.direction.segment_bytes):
            await line.put(data)
    except OSError:
        line.finish(End.RESET)
    else:
        line.finish(End.FINISHED)
