"""`make demo`: the whole pipeline on real images, with progress and one table at the end."""

from __future__ import annotations

import argparse
import functools
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import kpi
from benchmarks.children import TEST_IMAGES
from benchmarks.kpi import MODES, ModeResult, Setup
from benchmarks.report import Report
from schemas.bundle import Manifest
from schemas.bundle_files import open_bundle
from schemas.policy import Prices

_SHOWN = 0.05
"""Points of accuracy that one decimal shows."""
_NEXT = """
What to try next, each in a terminal of its own:

  .venv/bin/python -m broker.engines --port 1883
  .venv/bin/fleet inspect 'sb/#'
  .venv/bin/cloud-worker run --bundle models/fashion_mnist/bundle --trust-unsigned
  .venv/bin/edge-node run --bundle models/fashion_mnist/bundle \\
      --broker mqtt://127.0.0.1:1883 --source models/fashion_mnist/samples

  .venv/bin/python -m benchmarks kpi     the same table for all 10,000 test images, where they are installed
  README.md, "Deploy on a Pi"            the same on a device of your own"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The demo takes the benchmark's options; its default is the committed sample of the test set."""
    kpi.add_options(parser)
    parser.set_defaults(images=TEST_IMAGES)


async def run(options: argparse.Namespace) -> Report:
    """Show it; the report has the same rows as `kpi`."""
    setup = kpi.setup_from(options)
    console = Console(stderr=options.json, highlight=False)
    manifest = open_bundle(setup.bundle).manifest
    _introduce(console, setup, manifest)
    begun = time.monotonic()
    results = await _stream(console, setup)
    seconds = time.monotonic() - begun
    rows = [result.row() for result in results.values()]
    return Report("demo", rows=rows, show=functools.partial(_show, console, results, seconds))


def _show(console: Console, results: dict[str, ModeResult], seconds: float) -> None:
    console.print(_table(results))
    _conclude(console, results, seconds)


def _introduce(console: Console, setup: Setup, manifest: Manifest) -> None:
    profile = manifest.profile
    console.print(f"[bold]splitbus[/bold]: {manifest.name} {manifest.edge_version}, {setup.count} real test images")
    console.print(
        f"M MACs: head and exit {profile.head_macs / 1e6:.2f} on the node; tail {profile.tail_macs / 1e6:.1f}, "
        f"whole model {profile.full_macs / 1e6:.1f} in the cloud"
    )
    console.print(f"{setup.nodes} nodes, {setup.workers} workers, one broker, each a process of its own")
    console.print(f"a node's link: {setup.link}")


async def _stream(console: Console, setup: Setup) -> dict[str, ModeResult]:
    results: dict[str, ModeResult] = {}
    columns = (TextColumn("  {task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        start = progress.add_task("starting", total=1)
        async with kpi.cloud(setup) as broker:
            progress.update(start, completed=1, description=f"{broker.engine} up")
            for mode in MODES:
                task: TaskID = progress.add_task(mode, total=setup.count)
                results[mode] = await kpi.measure(setup, broker, mode, functools.partial(_advance, progress, task))
    return results


def _advance(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)


def _table(results: dict[str, ModeResult]) -> Table:
    table = Table()
    table.add_column("")
    for mode in results:
        table.add_column(mode, justify="right")
    rows = [result.row() for result in results.values()]
    for name, render in _LINES.items():
        table.add_row(name, *(render(row) for row in rows))
    table.add_row("answers by batch", *(_batches(result) for result in results.values()))
    return table


_LINES: dict[str, Any] = {
    "latency p50": lambda row: f"{row['p50_ms']:.1f} ms",
    "latency p95": lambda row: f"{row['p95_ms']:.1f} ms",
    "latency p99": lambda row: f"{row['p99_ms']:.1f} ms",
    "bytes up, socket": lambda row: f"{row['bytes_up']:.0f}",
    "bytes down, socket": lambda row: f"{row['bytes_down']:.0f}",
    "tensor when shipped": lambda row: f"{row['payload_bytes_shipped']:.0f} bytes" if row["shipped"] else "0 bytes",
    "cost of 1,000": lambda row: f"${1000 * row['cost_usd']:.4f}",
    "accuracy": lambda row: f"{100 * row['accuracy']:.1f} %",
    "  95 % interval": lambda row: f"{100 * row['accuracy_low']:.1f} to {100 * row['accuracy_high']:.1f}",
    "shipped (escalated)": lambda row: f"{100 * row['shipped']:.1f} %",
}


def _batches(result: ModeResult) -> str:
    total = sum(result.batches.values())
    if not total:
        return "-"
    return ", ".join(f"{size}: {100 * count / total:.0f} %" for size, count in sorted(result.batches.items()))


def _conclude(console: Console, results: dict[str, ModeResult], seconds: float) -> None:
    prices = Prices()
    whole, hybrid = results["cloud only"], results["hybrid"]
    gap = 100 * (whole.accuracy - hybrid.accuracy)
    console.print(
        f"prices: ${prices.per_cloud_ms * 3.6e6:.2f} an hour of a worker, ${prices.per_megabyte:.2f} a MB of "
        f"mobile data, ${prices.per_message * 1e6:.2f} a million messages"
    )
    console.print("edge only is the early exit alone; cloud only ships the image as lossless WebP")
    apart = f"{abs(gap):.1f} points of accuracy {'behind' if gap > 0 else 'ahead'}"
    console.print(
        f"hybrid costs {100 * hybrid.mean_cost() / whole.mean_cost():.0f} % of cloud only, sends "
        f"{100 * hybrid.socket_up / whole.socket_up:.0f} % of its bytes up, and is "
        f"{apart if abs(gap) >= _SHOWN else 'as accurate'}; measured in {seconds:.0f} s"
    )
    console.print(_NEXT, markup=False, soft_wrap=True)
