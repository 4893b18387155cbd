"""What an edge process takes: resident memory with the head loaded, start-up time, and that torch is not in it."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.children import BUNDLE
from benchmarks.report import Report, Target

_RSS_TARGET_MB = 90.0
_READY_TARGET_S = 2.0

_PROBE = """
import time, sys
begun = time.time() - float(open("/proc/uptime").read().split()[0])
import asyncio, json, os, resource
import numpy as np
from edge_node import NodeConfig, open_node

async def main(bundle, runtime):
    async with open_node(bundle, config=NodeConfig("probe", runtime=runtime)) as node:
        spec = node.bundle.manifest.sample
        await node.infer(np.zeros(spec.shape, spec.dtype))
        ticks = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19])
        ready = time.time() - (begun + ticks / os.sysconf("SC_CLK_TCK"))
        pages = int(open("/proc/self/statm").read().split()[1])
        print(json.dumps({
            "runtime": node.runtime,
            "ready_s": ready,
            "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
            "torch_loaded": "torch" in sys.modules,
        }))

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which bundle, how often."""
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--starts", type=int, default=5)


async def run(options: argparse.Namespace) -> Report:
    """Start the node's own API in fresh processes, with each runtime; the median and the worst count."""
    report = Report("footprint")
    for runtime in ("tflite", "numpy"):
        probes = [_probe(options.bundle, runtime) for _ in range(options.starts)]
        row = {
            "runtime": probes[0]["runtime"],
            "ready_s": statistics.median(probe["ready_s"] for probe in probes),
            "ready_s_worst": max(probe["ready_s"] for probe in probes),
            "rss_mb": max(probe["rss_mb"] for probe in probes),
            "peak_mb": max(probe["peak_mb"] for probe in probes),
            "torch_loaded": any(probe["torch_loaded"] for probe in probes),
        }
        report.rows.append(row)
        report.targets += [
            Target(f"RSS in MB, {runtime}", row["rss_mb"], "<=", _RSS_TARGET_MB),
            Target(f"ready in s, median of starts, {runtime}", row["ready_s"], "<=", _READY_TARGET_S),
            Target(f"torch in sys.modules, {runtime}", float(row["torch_loaded"]), "==", 0.0),
        ]
    return report


def _probe(bundle: Path, runtime: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, str(bundle), runtime], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
