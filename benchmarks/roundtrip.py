"""One frame in flight: splitbus with a tail that computes nothing, against a bare aiomqtt echo on the same broker.

Ours is everything but the head: encoding, frame, request, worker, batcher, reply, decoding. Both sides run in
processes of their own, on the same event loop, QoS 0, a payload of the same size, in alternating rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from benchmarks.children import BUNDLE, child_process
from benchmarks.echo import ASK, REPLY, bare_client
from benchmarks.report import Quantiles, Report, Target
from broker.engines import available_engines, start_broker
from edge_node.node import NodeConfig, open_node
from schemas.bundle_files import open_bundle

_FRAME_OVERHEAD = 19
_RATIO_TARGET = 1.5
_P50_CAP_MS = 10.0

Ping = Callable[[], Awaitable[None]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """How long to measure."""
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pings", type=int, default=300, help="round trips a round, for each side")


@asynccontextmanager
async def bare(broker: str, size: int) -> AsyncIterator[Ping]:
    """One round trip of the echo."""
    async with child_process("echo", ["-m", "benchmarks.echo", "--broker", broker]) as echo:
        await echo.ready()
        async with bare_client(broker, "asker") as client:
            await client.subscribe(REPLY)
            replies = aiter(client.messages)

            async def ping() -> None:
                await client.publish(ASK, bytes(size))
                await anext(replies)

            yield ping


@asynccontextmanager
async def ours(broker: str, bundle: Path) -> AsyncIterator[Ping]:
    """One shipment of a cut tensor at the first operating point."""
    opened = open_bundle(bundle)
    point = opened.manifest.points[0]
    spec = opened.manifest.spec_of(point)
    cut = np.random.default_rng(1).normal(size=spec.shape).astype(spec.dtype)
    argv = ["-m", "benchmarks.noop_worker", "--bundle", str(bundle), "--broker", broker]
    async with (
        child_process("noop worker", argv) as worker,
        open_node(opened, broker=broker, config=NodeConfig("asker-2"), connect_timeout_s=10) as node,
    ):
        await worker.ready()
        assert await node.wait_for_cloud(10)
        uplink = node.uplink
        assert uplink is not None
        loop = asyncio.get_running_loop()

        async def ping() -> None:
            shipment = await uplink.ship(point, cut, loop.time() + 5)
            assert shipment.status == "ok", shipment

        yield ping


async def _round(ping: Ping, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        await ping()
        taken.append((time.perf_counter() - started) * 1e3)
    return taken


async def run(options: argparse.Namespace) -> Report:
    """Both sides on each engine that is installed."""
    report = Report("roundtrip")
    bundle = open_bundle(options.bundle)
    size = bundle.codec(bundle.manifest.points[0]).max_payload + _FRAME_OVERHEAD
    for engine in available_engines():
        async with (
            start_broker(engine) as broker,
            bare(broker.url, size) as echo,
            ours(broker.url, options.bundle) as shipment,
        ):
            await _round(echo, 100)
            await _round(shipment, 100)
            pairs = [
                (await _round(echo, options.pings), await _round(shipment, options.pings))
                for _ in range(options.rounds)
            ]
        ratios = [statistics.median(mine) / statistics.median(theirs) for theirs, mine in pairs]
        for side, column in (("bare aiomqtt echo", 0), ("splitbus", 1)):
            values = [value for pair in pairs for value in pair[column]]
            report.rows.append({"engine": engine, "side": side, "payload": size, **Quantiles.of(values).fields("ms")})
        mine_p50 = report.rows[-1]["p50_ms"]
        ratio = statistics.median(ratios)
        report.rows.append({"engine": engine, "side": "ratio", "p50": ratio, "least": min(ratios), "most": max(ratios)})
        report.targets.append(Target(f"p50 over a bare echo's, {engine}", ratio, "<=", _RATIO_TARGET))
        report.targets.append(Target(f"p50 in ms, {engine}: nowhere near 40", mine_p50, "<=", _P50_CAP_MS))
    return report
