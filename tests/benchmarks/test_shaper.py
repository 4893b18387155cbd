"""The link emulator: a strict lower bound on every time, a generous upper one, and not a byte astray."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.links import PROFILES, Direction, LinkProfile, Pace
from benchmarks.shaper import Shaper, Traffic

ROOT = Path(__file__).parents[2]
LIMIT_S = 20.0
LATE_S = 0.5  # what a busy machine may add
FAST = LinkProfile(rtt_ms=0, up_mbit=10_000, down_mbit=10_000)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def on_both_loops(test: Callable[[], Coroutine[None, None, None]]) -> Callable[..., None]:
    """Run a test under the standard event loop and under uvloop, whose timers differ."""

    @pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
    def wrapper(run: Callable[[Coroutine[None, None, None]], None]) -> None:
        run(test())

    wrapper.__name__ = test.__name__
    return wrapper


@asynccontextmanager
async def peers(profile: LinkProfile) -> AsyncIterator[tuple[Shaper, Callable[[], Awaitable[tuple[Streams, Streams]]]]]:
    """Give a shaper, and a function that opens a connection through it and returns its node's and its broker's end."""
    accepted: asyncio.Queue[Streams] = asyncio.Queue()
    opened: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda *streams: accepted.put_nowait(streams), "127.0.0.1", 0)

    async def connect() -> tuple[Streams, Streams]:
        node = await asyncio.open_connection(shaper.host, shaper.port)
        broker = await accepted.get()
        opened.extend((node[1], broker[1]))
        return node, broker

    async with asyncio.timeout(LIMIT_S), server:
        async with Shaper("127.0.0.1", server.sockets[0].getsockname()[1], profile) as shaper:
            yield shaper, connect
        for writer in opened:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def one_way(source: asyncio.StreamWriter, sink: asyncio.StreamReader, size: int) -> float:
    """Send so many bytes and return the seconds until the last has arrived."""
    start = time.monotonic()
    source.write(bytes(size))
    await sink.readexactly(size)
    return time.monotonic() - start


@on_both_loops
async def test_each_way_takes_half_the_round_trip() -> None:
    async with peers(LinkProfile(rtt_ms=100, up_mbit=1000, down_mbit=1000)) as (_, connect):
        node, broker = await connect()
        for source, sink in ((node[1], broker[0]), (broker[1], node[0])):
            for _ in range(3):
                assert 0.05 <= await one_way(source, sink, 10) < 0.05 + LATE_S


@on_both_loops
async def test_each_way_has_its_own_rate() -> None:
    async with peers(LinkProfile(rtt_ms=20, up_mbit=4, down_mbit=8)) as (_, connect):
        node, broker = await connect()
        up = await one_way(node[1], broker[0], 100_000)
        down = await one_way(broker[1], node[0], 100_000)
    assert 0.2 + 0.01 <= up < 0.21 + LATE_S
    assert 0.1 + 0.01 <= down < 0.11 + LATE_S


@on_both_loops
async def test_connections_do_not_share_a_link() -> None:
    async with peers(LinkProfile(rtt_ms=0, up_mbit=4, down_mbit=4)) as (_, connect):
        pairs = [await connect() for _ in range(4)]
        start = time.monotonic()
        await asyncio.gather(*(one_way(node[1], broker[0], 100_000) for node, broker in pairs))
        assert 0.2 <= time.monotonic() - start < 0.2 + LATE_S


@on_both_loops
async def test_order_and_content_are_kept_both_ways_and_counted_exactly() -> None:
    seeded = random.Random(7)
    chunks = [seeded.randbytes(seeded.choice((1, 2, 1459, 1460, 1461, 40_000, 70_000))) for _ in range(60)]
    sent = b"".join(chunks)

    async def send(writer: asyncio.StreamWriter) -> None:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()

    async with peers(LinkProfile(rtt_ms=5, up_mbit=200, down_mbit=300)) as (shaper, connect):
        node, broker = await connect()
        _, _, up, down = await asyncio.gather(send(node[1]), send(broker[1]), broker[0].read(), node[0].read())
        assert up == sent
        assert down == sent
        assert shaper.totals() == Traffic(len(sent), len(sent), 1)


@on_both_loops
async def test_counters_are_by_connection_and_can_be_reset() -> None:
    async with peers(FAST) as (shaper, connect):
        first, second = await connect(), await connect()
        await one_way(first[0][1], first[1][0], 10)
        await one_way(second[1][1], second[0][0], 300)
        assert shaper.by_connection() == (Traffic(10, 0, 1), Traffic(0, 300, 1))
        assert shaper.totals() == Traffic(10, 300, 2)
        shaper.reset()
        assert shaper.totals() == Traffic(0, 0, 2)


@on_both_loops
async def test_a_half_close_passes_and_the_answer_still_comes() -> None:
    async with peers(LinkProfile(rtt_ms=10, up_mbit=10, down_mbit=10)) as (_, connect):
        node, broker = await connect()
        node[1].write(b"question")
        node[1].write_eof()
        assert await broker[0].read() == b"question"
        broker[1].write(b"answer")
        broker[1].write_eof()
        assert await node[0].read() == b"answer"


@on_both_loops
async def test_a_reset_passes_after_what_was_sent_before() -> None:
    async with peers(LinkProfile(rtt_ms=100, up_mbit=10, down_mbit=10)) as (_, connect):
        node, broker = await connect()
        await one_way(node[1], broker[0], 10)
        option = struct.pack("ii", 1, 0)
        node[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        start = time.monotonic()
        node[1].transport.abort()
        with pytest.raises(ConnectionResetError):
            await broker[0].read()
        assert 0.05 <= time.monotonic() - start < 0.05 + LATE_S


@on_both_loops
async def test_a_receiver_that_does_not_read_holds_the_sender_back() -> None:
    async with peers(LinkProfile(rtt_ms=0, up_mbit=10_000, down_mbit=10_000, buffer_bytes=1000)) as (
        shaper,
        connect,
    ):
        node, broker = await connect()
        node[1].write(bytes(40_000_000))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await node[1].drain()
        assert shaper.totals().up < 40_000_000
        assert len(await broker[0].readexactly(40_000_000)) == 40_000_000


@on_both_loops
async def test_cut_resets_and_refuses_until_healed_at_the_same_address() -> None:
    async with peers(FAST) as (shaper, connect):
        node, broker = await connect()
        await one_way(node[1], broker[0], 10)
        url = shaper.url
        await shaper.cut()
        for reader, _ in (node, broker):
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(shaper.host, shaper.port)
        await shaper.cut()
        await shaper.heal()
        assert shaper.url == url
        node, broker = await connect()
        await one_way(node[1], broker[0], 10)


@on_both_loops
async def test_a_stall_is_open_but_silent_and_loses_nothing() -> None:
    async with peers(FAST) as (shaper, connect):
        old = await connect()
        shaper.stall()
        new = await connect()
        for node, broker in (old, new):
            node[1].write(b"held")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await broker[0].readexactly(1)
        await shaper.heal()
        for _, broker in (old, new):
            assert await broker[0].readexactly(4) == b"held"


@on_both_loops
async def test_a_profile_changes_live() -> None:
    async with peers(FAST) as (shaper, connect):
        node, broker = await connect()
        await one_way(node[1], broker[0], 10)
        shaper.set_profile(LinkProfile(rtt_ms=200, up_mbit=100, down_mbit=100))
        assert await one_way(node[1], broker[0], 10) >= 0.1
        shaper.set_profile(FAST)
        assert await one_way(node[1], broker[0], 10) < LATE_S


@on_both_loops
async def test_an_upstream_that_is_not_there_resets_the_node() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with asyncio.timeout(LIMIT_S), Shaper("127.0.0.1", nobody.getsockname()[1], FAST) as shaper:
            reader, writer = await asyncio.open_connection(shaper.host, shaper.port)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@given(st.lists(st.tuples(st.floats(0, 0.1), st.integers(1, 100_000)), min_size=1, max_size=30))
def test_the_virtual_clock_neither_hurries_nor_reorders(steps: list[tuple[float, int]]) -> None:
    direction = Direction(delay_s=0.025, bytes_per_s=625_000, buffer_bytes=0)
    pace, now, free, last = Pace(), 0.0, 0.0, 0.0
    for pause, size in steps:
        now += pause
        arrival = pace.arrival(direction, now, size)
        free = max(now, free) + size / 625_000
        assert arrival == pytest.approx(free + 0.025)
        assert arrival >= last
        last = arrival


def test_order_is_kept_when_the_delay_shrinks() -> None:
    pace = Pace()
    slow = pace.arrival(Direction(1.0, 1000, 0), 0.0, 10)
    assert pace.arrival(Direction(0.0, 1e9, 0), 0.0, 10) >= slow


@pytest.mark.parametrize("values", [(-1, 1, 1), (1, 0, 1), (1, 1, float("inf")), (float("nan"), 1, 1)])
def test_a_profile_that_cannot_be_is_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|may be"):
        LinkProfile(*values)


def test_the_4g_profile_is_the_one_of_the_documents() -> None:
    assert str(PROFILES["4G"]) == "50 ms, 5 Mbit/s up, 20 Mbit/s down"


def test_the_command_prints_its_address_and_its_totals() -> None:
    line = [sys.executable, "-m", "benchmarks.shaper", "--to", "127.0.0.1:9", "--link", "4g"]
    with subprocess.Popen(line, cwd=ROOT, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("mqtt://127.0.0.1:")
        process.terminate()
        assert process.communicate(timeout=LIMIT_S)[0] == "0 connections, 0 bytes up, 0 bytes down\n"
    assert process.returncode == 0
