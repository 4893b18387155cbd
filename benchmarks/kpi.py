"""The table that counts: latency, bytes, cost and accuracy of edge only, cloud only and hybrid, over a mobile link.

Real processes: a broker, workers beside it, edge nodes behind a shaped link of their own each. Every node
takes its share of the test images, one mode after the other. Bytes are those on the nodes' sockets, all of
MQTT included; cost is at the prices of `schemas.policy.Prices`.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.children import BUNDLE, TEST_IMAGES, child_process, node_argv, worker_argv
from benchmarks.report import Quantiles, Report, Target
from benchmarks.shaper import PROFILES, LinkProfile, Shaper
from broker.engines import EngineChoice, RunningBroker, start_broker
from schemas.bundle import Manifest
from schemas.bundle_files import open_bundle
from schemas.policy import Prices

WHOLE_TEST_SET = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
"""Where Debian's package dataset-fashion-mnist puts all 10,000."""
MODES = {"edge only": "edge", "cloud only": "cloud", "hybrid": "hybrid"}
WORKER_OPTIONS = ("--max-delay-ms", "2")
_Z95 = 1.959964

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """What runs, on what, over which link."""

    images: Path
    bundle: Path = BUNDLE
    count: int = 1000
    nodes: int = 4
    workers: int = 2
    concurrency: int = 2
    deadline_ms: float = 2000.0
    link: LinkProfile = PROFILES["4G"]
    engine: EngineChoice = "auto"


@dataclass(slots=True)
class ModeResult:
    """All outcomes of one mode, and the bytes on the nodes' sockets meanwhile."""

    mode: str
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    socket_up: int = 0
    socket_down: int = 0

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self._share(lambda outcome: outcome["label"] == outcome["truth"])

    @property
    def shipped(self) -> float:
        """Share of the samples of which anything left the device."""
        return self._share(lambda outcome: outcome["attempts"] > 0)

    @property
    def payload(self) -> float:
        """Mean compressed tensor of those that were shipped, bytes."""
        return _mean([o["payload_bytes"] for o in self.outcomes if o["attempts"] > 0])

    @property
    def batches(self) -> Counter[int]:
        """How many answers came from batches of each size."""
        return Counter(outcome["batch"] for outcome in self.outcomes if outcome["batch"])

    def latency(self) -> Quantiles:
        """From handing the sample over to the outcome, in milliseconds."""
        return Quantiles.of([outcome["times_ms"]["total"] for outcome in self.outcomes])

    def mean_cost(self) -> float:
        """US dollars an inference."""
        return _mean([outcome["cost"] for outcome in self.outcomes])

    def row(self) -> dict[str, Any]:
        """The mode as one row of a report."""
        count = len(self.outcomes)
        low, high = wilson(self.accuracy, count)
        return {
            "mode": self.mode,
            "samples": count,
            **self.latency().fields("ms"),
            "bytes_up": self.socket_up / max(1, count),
            "bytes_down": self.socket_down / max(1, count),
            "payload_bytes_shipped": self.payload,
            "cost_usd": self.mean_cost(),
            "accuracy": self.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "shipped": self.shipped,
            "answered_by_cloud": self._share(lambda outcome: outcome["source"] == "cloud"),
            "late": self._share(lambda outcome: outcome["times_ms"]["total"] > outcome["deadline_ms"]),
            "mean_batch": _mean([o["batch"] for o in self.outcomes if o["batch"]]),
        }

    def _share(self, holds: Callable[[dict[str, Any]], bool]) -> float:
        return sum(map(holds, self.outcomes)) / len(self.outcomes) if self.outcomes else math.nan


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927)."""
    if not count:
        return math.nan, math.nan
    centre = share + _Z95**2 / (2 * count)
    spread = _Z95 * math.sqrt(share * (1 - share) / count + _Z95**2 / (4 * count**2))
    scale = 1 + _Z95**2 / count
    return (centre - spread) / scale, (centre + spread) / scale


@asynccontextmanager
async def cloud(setup: Setup) -> AsyncIterator[RunningBroker]:
    """A broker with its workers, ready."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(start_broker(setup.engine))
        workers = [
            await stack.enter_async_context(
                child_process(f"worker {n}", worker_argv(broker.url, f"w{n}", *WORKER_OPTIONS, bundle=setup.bundle))
            )
            for n in range(1, setup.workers + 1)
        ]
        for worker in workers:
            await worker.ready()
        yield broker


async def measure(setup: Setup, broker: RunningBroker, mode: str, progress: Progress) -> ModeResult:
    """Stream the images through all nodes in one mode; `progress(done)` after each outcome."""
    result = ModeResult(mode)
    async with Shaper(broker.host, broker.port, setup.link) as shaper:
        async with asyncio.TaskGroup() as group:
            for number in range(1, setup.nodes + 1):
                group.create_task(_one_node(setup, shaper.url, number, result, progress), name=f"node {number}")
        traffic = shaper.totals()
        result.socket_up, result.socket_down = traffic.up, traffic.down
    return result


async def _one_node(setup: Setup, url: str, number: int, result: ModeResult, progress: Progress) -> None:
    share = ("--shard", f"{number}/{setup.nodes}", "--count", str(_share_of(setup, number)))
    how = ("--route", MODES[result.mode], "--concurrency", str(setup.concurrency))
    source = ("--source", str(setup.images), "--deadline-ms", str(setup.deadline_ms))
    argv = node_argv(url, f"node-{number}", *share, *how, *source, bundle=setup.bundle)
    async with child_process(f"node {number}", argv) as node:
        async for outcome in node.lines():
            result.outcomes.append(outcome)
            progress(len(result.outcomes))


def _share_of(setup: Setup, number: int) -> int:
    return len(range(number - 1, setup.count, setup.nodes))


def targets(results: dict[str, ModeResult], manifest: Manifest) -> list[Target]:
    """The acceptance figures of the reference pair."""
    edge, whole, hybrid = results["edge only"], results["cloud only"], results["hybrid"]
    return [
        Target("cloud-only accuracy", whole.accuracy, ">=", 0.93),
        Target("exit alone accuracy", edge.accuracy, ">=", 0.88),
        Target("hybrid behind cloud-only, points", 100 * (whole.accuracy - hybrid.accuracy), "<=", 0.5),
        Target("hybrid shipped share", hybrid.shipped, "<=", 0.40),
        Target("hybrid tensor payload, bytes", hybrid.payload, "<=", 100),
        Target("head with exit, M MACs", manifest.profile.head_macs / 1e6, "<=", 1.5),
        Target("hybrid p50 over cloud-only p50", hybrid.latency().p50 / whole.latency().p50, "<=", 0.4),
        Target("hybrid cost over cloud-only cost", hybrid.mean_cost() / whole.mean_cost(), "<=", 0.5),
        Target("answers after their deadline", max(result.row()["late"] for result in results.values()), "<=", 0.0),
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be varied."""
    parser.add_argument("--images", type=Path, help="IDX file of test images (default: all 10,000 where installed)")
    parser.add_argument("--count", type=int, help="how many of them (default: all)")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=2, help="samples in flight for each node")
    parser.add_argument("--link", type=str.upper, choices=PROFILES, default="4G")
    parser.add_argument("--engine", choices=("auto", "mosquitto", "rumqttd"), default="auto")


def setup_from(options: argparse.Namespace) -> Setup:
    """The setup that the options describe."""
    images = options.images or (WHOLE_TEST_SET if WHOLE_TEST_SET.exists() else TEST_IMAGES)
    whole = 10_000 if images == WHOLE_TEST_SET else 1000
    return Setup(
        images=images,
        count=options.count or whole,
        nodes=options.nodes,
        workers=options.workers,
        concurrency=options.concurrency,
        link=PROFILES[options.link],
        engine=options.engine,
    )


async def run(options: argparse.Namespace) -> Report:
    """Measure all modes."""
    setup = setup_from(options)
    results: dict[str, ModeResult] = {}
    async with cloud(setup) as broker:
        for mode in MODES:
            results[mode] = await measure(setup, broker, mode, lambda _done: None)
    prices = Prices()
    report = Report("kpi", rows=[result.row() for result in results.values()])
    report.targets = targets(results, open_bundle(setup.bundle).manifest)
    report.notes = [
        f"{setup.count} images of {setup.images.name}, {setup.nodes} nodes, {setup.workers} workers, link {setup.link}",
        (
            f"prices in dollars: {prices.per_cloud_ms:.3g} a cloud ms, {prices.per_megabyte:g} a MB, "
            f"{prices.per_message:g} a message"
        ),
    ]
    return report


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
