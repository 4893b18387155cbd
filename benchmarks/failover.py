"""Kill -9 one of two workers under load, again and again: every request answered once, and in time.

A node sends bursts of requests that all go to the cloud. In each round one of two workers is killed while a burst is
in flight, and started again. Every request must end in exactly one outcome, with an answer, within its deadline.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.children import BUNDLE, TEST_IMAGES, Child, child_process, worker_argv
from benchmarks.report import Quantiles, Report, Target
from broker.engines import start_broker
from edge_node.node import EdgeNode, NodeConfig, open_node
from edge_node.sources import Source, open_source
from schemas.bundle_files import open_bundle
from schemas.messages import Outcome
from schemas.policy import Route, TaskRoutingPolicy

_SPREAD_S = 0.03
"""A worker is killed at a random moment of so long after a burst has begun."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """How often, how hard."""
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--images", type=Path, default=TEST_IMAGES)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--burst", type=int, default=10, help="requests that begin at once")
    parser.add_argument("--deadline-ms", type=float, default=500.0)
    parser.add_argument("--engine", choices=("auto", "mosquitto", "rumqttd"), default="auto")
    parser.add_argument("--seed", type=int, default=1)


@dataclass(slots=True)
class _Load:
    """Bursts of requests in a steady rhythm, and what became of them."""

    node: EdgeNode
    source: Source
    options: argparse.Namespace
    asked: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a burst has begun; whoever waits for the next one clears it."""

    async def run(self, stop: asyncio.Event) -> None:
        """Begin requests at the rate until stopped, then wait for the last."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                for _ in range(self.options.burst):
                    group.create_task(self._one(self.asked))
                    self.asked += 1
                self.begun.set()
                due += self.options.burst / self.options.rate
                await asyncio.sleep(max(0.0, due - loop.time()))

    async def _one(self, number: int) -> None:
        sample = self.source.load(number % len(self.source))
        self.outcomes.append(await self.node.infer(sample.array, deadline_ms=self.options.deadline_ms))


async def run(options: argparse.Namespace) -> Report:
    """Kill as often as asked, under load, and count."""
    bundle = open_bundle(options.bundle)
    policy = TaskRoutingPolicy(pinned=Route.CLOUD_ONLY)
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(start_broker(options.engine))
        config = NodeConfig("node-1", policy=policy)
        node = await stack.enter_async_context(
            open_node(bundle, broker=broker.url, config=config, connect_timeout_s=10)
        )
        load = _Load(node, open_source(options.images, bundle.manifest.sample), options)
        await _kill_in_turn(options, broker.url, load, stop)
        statistics = node.statistics().counters
    return _report(options, load, broker.engine, statistics)


async def _kill_in_turn(options: argparse.Namespace, url: str, load: _Load, stop: asyncio.Event) -> None:
    """Rounds with the load running: both workers up, some requests, a kill at a random moment, the loss made good."""
    dice = random.Random(options.seed)
    async with AsyncExitStack() as stack:
        workers = [await _worker(stack, url, f"w{number}", options.bundle) for number in (1, 2)]
        assert await load.node.wait_for_cloud(10)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(stop), name="load")
            for kill in range(options.kills):
                victim = dice.randrange(2)
                await _next_burst(load)
                await asyncio.sleep(dice.uniform(0.0, _SPREAD_S))
                workers[victim].kill()
                await workers[victim].process.wait()
                await _next_burst(load)
                workers[victim] = await _worker(stack, url, f"w{victim + 1}-{kill}", options.bundle)
            stop.set()


async def _next_burst(load: _Load) -> None:
    load.begun.clear()
    await load.begun.wait()


async def _worker(stack: AsyncExitStack, url: str, name: str, bundle: Path) -> Child:
    worker = await stack.enter_async_context(child_process(name, worker_argv(url, name, bundle=bundle)))
    await worker.ready()
    return worker


def _report(options: argparse.Namespace, load: _Load, engine: str, counters: dict[str, int]) -> Report:
    outcomes = load.outcomes
    once = Counter(outcome.request for outcome in outcomes)
    late = sum(outcome.times_ms.total > outcome.deadline_ms for outcome in outcomes)
    empty = sum(outcome.label is None for outcome in outcomes)
    shipped = [outcome for outcome in outcomes if outcome.attempts]
    report = Report("failover")
    report.rows = [
        {
            "engine": engine,
            "kills": options.kills,
            "requests": load.asked,
            "shipped": len(shipped),
            "sent_more_than_once": sum(outcome.attempts > 1 for outcome in shipped),
            "from_cloud": sum(outcome.source == "cloud" for outcome in outcomes),
            "from_edge": sum(outcome.source == "edge" for outcome in outcomes),
            "cloud_timeouts": counters.get("cloud_timeout", 0),
            **Quantiles.of([outcome.times_ms.total for outcome in shipped]).fields("ms_shipped"),
            "worst_ms": max(outcome.times_ms.total for outcome in outcomes),
        }
    ]
    report.targets = [
        Target("kills", options.kills, ">=", 20),
        Target("requests without exactly one outcome", load.asked - sum(n == 1 for n in once.values()), "==", 0),
        Target("outcomes without an answer", empty, "==", 0),
        Target("outcomes after their deadline", late, "==", 0),
    ]
    return report
