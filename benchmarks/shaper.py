"""A userspace TCP link emulator between nodes and a broker: `python -m benchmarks.shaper --to HOST:PORT --link 4g`.

Every connection has a link of its own, as mobile nodes have. What it does not emulate: packet loss, TCP's
handshake and slow start, and headers below TCP.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import uvloop

from benchmarks.connection import ShapedConnection, Stream
from benchmarks.links import PROFILES, LinkProfile, Traffic
from broker.engines import LOOPBACK, hold_port

__all__ = ["PROFILES", "LinkProfile", "Shaper", "Traffic"]


class Shaper:
    """Listens for nodes while the context lasts, and carries each connection to the upstream over a link.

    The address stays the same over `cut` and `heal`. On exit every connection is reset.
    """

    def __init__(
        self, upstream_host: str, upstream_port: int, profile: LinkProfile, *, host: str = LOOPBACK, port: int = 0
    ) -> None:
        self.host = host
        self.port = port
        self._upstream = (upstream_host, upstream_port)
        self._profile = profile
        self._flow = asyncio.Event()
        self._flow.set()
        self._counted: list[ShapedConnection] = []
        self._live: dict[asyncio.Task[None], ShapedConnection] = {}
        self._server: asyncio.Server | None = None
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """What a node connects to instead of the broker."""
        return f"mqtt://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen. Raises BrokerUnavailableError when the port cannot be used."""
        async with AsyncExitStack() as stack:
            self.port = stack.enter_context(hold_port(self.host, self.port))
            await self.heal()
            stack.push_async_callback(self.cut)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def set_profile(self, profile: LinkProfile) -> None:
        """Change the link of all connections for the bytes sent from now on; order is kept."""
        self._profile = profile
        for connection in self._live.values():
            connection.set_profile(profile)

    def stall(self) -> None:
        """Keep connections open, also new ones, and let nothing arrive until `heal`."""
        self._flow.clear()

    async def cut(self) -> None:
        """Reset all connections, losing what is under way, and refuse new ones until `heal`."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in self._live:
            task.cancel()
        await asyncio.gather(*self._live, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    async def heal(self) -> None:
        """End a `cut` or a `stall`: accept connections, and let arrive what a stall held back."""
        self._flow.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)

    def totals(self) -> Traffic:
        """Sum over all connections since the start or the last `reset`, those that have ended included."""
        each = self.by_connection()
        return Traffic(sum(one.up for one in each), sum(one.down for one in each), len(each))

    def by_connection(self) -> tuple[Traffic, ...]:
        """Give the same for each connection by itself, in the order in which they were accepted."""
        return tuple(connection.traffic() for connection in self._counted)

    def reset(self) -> None:
        """Count from zero; connections that are still open count on."""
        self._counted = list(self._live.values())
        for connection in self._counted:
            connection.reset()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ShapedConnection(self._profile, self._flow, Stream(reader, writer))
        if self._server is None:  # it was on its way in when the link was cut
            connection.node.reset()
            return
        task = asyncio.create_task(connection.carry(self._upstream), name="shaped connection")
        self._live[task] = connection
        self._counted.append(connection)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._live.pop(task).node.reset()  # of no effect but where the task was cancelled before it began


async def _run(upstream: tuple[str, int], listen: tuple[str, int], profile: LinkProfile) -> None:
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    async with Shaper(*upstream, profile, host=listen[0], port=listen[1]) as shaper:
        print(f"{shaper.url} -> mqtt://{upstream[0]}:{upstream[1]} ({profile})", flush=True)
        await interrupted.wait()
        total = shaper.totals()
        print(f"{total.connections} connections, {total.up} bytes up, {total.down} bytes down")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        msg = f"{text!r} is not an address; write HOST:PORT, for example 127.0.0.1:1883"
        raise argparse.ArgumentTypeError(msg)
    return host, int(port)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and run until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shaper", description=__doc__)
    parser.add_argument("--to", type=_address, required=True, metavar="HOST:PORT", help="the broker")
    parser.add_argument("--listen", type=_address, default=(LOOPBACK, 0), metavar="HOST:PORT")
    parser.add_argument("--link", type=str.upper, choices=PROFILES, default="4G")
    options = parser.parse_args(argv)
    uvloop.run(_run(options.to, options.listen, PROFILES[options.link]))  # its timers are the finer ones


if __name__ == "__main__":
    main()
