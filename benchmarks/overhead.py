"""Bytes of an inference beyond its compressed tensor, counted on the node's socket, both directions together."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import numpy as np

from benchmarks.children import BUNDLE, child_process, worker_argv
from benchmarks.report import Report, Target
from benchmarks.shaper import PROFILES, Shaper
from broker.engines import start_broker
from edge_node.node import NodeConfig, open_node
from schemas.bundle_files import open_bundle

_TARGET_BYTES = 130


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which bundle, which node name; both stand in topics."""
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--node", default="node-1", help="the node's name; it stands in both topics")
    parser.add_argument("--frames", type=int, default=50)


async def run(options: argparse.Namespace) -> Report:
    """Frames one after the other at each operating point, the socket's counters read before and after."""
    report = Report("overhead")
    bundle = open_bundle(options.bundle)
    async with (
        start_broker() as broker,
        child_process("worker", worker_argv(broker.url, "w1", bundle=options.bundle)) as worker,
        Shaper(broker.host, broker.port, PROFILES["LAN"]) as link,
    ):
        await worker.ready()
        config = NodeConfig(options.node, stats_every_s=3600)
        async with open_node(bundle, broker=link.url, config=config, connect_timeout_s=10) as node:
            assert await node.wait_for_cloud(10)
            uplink = node.uplink
            assert uplink is not None
            for point in bundle.manifest.points:
                spec = bundle.manifest.spec_of(point)
                array = np.random.default_rng(1).integers(0, 4, spec.shape).astype(spec.dtype)
                link.reset()
                shipped = [
                    await uplink.ship(point, array, asyncio.get_running_loop().time() + 10)
                    for _ in range(options.frames)
                ]
                assert all(shipment.status == "ok" for shipment in shipped), shipped[0]
                traffic, tensor = link.totals(), sum(s.payload_bytes for s in shipped) / options.frames
                report.rows.append(
                    {
                        "point": point.id,
                        "codec": point.codec,
                        "tensor_bytes": tensor,
                        "up": traffic.up / options.frames,
                        "down": traffic.down / options.frames,
                        "beyond_tensor": (traffic.up + traffic.down) / options.frames - tensor,
                    }
                )
    worst = max(row["beyond_tensor"] for row in report.rows)
    report.targets = [Target("bytes beyond the tensor, both directions", worst, "<=", _TARGET_BYTES)]
    report.notes = [f"model {bundle.manifest.name!r}, node {options.node!r}; MQTT included, TCP and IP headers not"]
    return report
