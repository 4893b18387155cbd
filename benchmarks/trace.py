"""The router over a link that changes, beside three that never change their mind: over one trace, at one time.

Four nodes answer the same images at the same moments, each behind a link of its own that goes through the same trace:
WiFi, 4G, congestion, an outage, recovery. One routes by the default policy; the others always answer on the edge,
always send the input (WebP), or always split, with the exit's answer at hand in all of them. The stated objective is a
loss for each request: its latency in ms, 5,000 ms for an answer that is wrong or late, 0.1 ms for each millionth of a
dollar. The rows hold its parts, and what other prices for a wrong answer would come to.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import plots, trace_plot
from benchmarks.children import BUNDLE, TEST_IMAGES
from benchmarks.kpi import WHOLE_TEST_SET, Setup, cloud
from benchmarks.report import Quantiles, Report, Target
from benchmarks.shaper import Shaper
from benchmarks.trace_link import TRACE, Phase, Step, play, steps
from edge_node.node import EdgeNode, NodeConfig, open_node
from edge_node.router import Decision, Request, RouterState, TaskRouter
from edge_node.sources import Source, open_source
from schemas.bundle_files import open_bundle
from schemas.errors import ConfigError
from schemas.messages import Outcome
from schemas.policy import Route, TaskRoutingPolicy

AUTO = "router"
FIXED = {
    "always edge": Route.EDGE_ONLY,
    "always cloud (WebP)": Route.CLOUD_ONLY,
    "always split": Route.HYBRID_SPLIT,
}
DEADLINE_MS = 300.0
WRONG_MS = 5000.0
MS_PER_DOLLAR = 1e5
OTHER_WRONG_MS = (1000.0, 2000.0, 10_000.0)
_LEAD_IN = 60
_ON_EDGE = {Route.EDGE_ONLY, Route.FALLBACK_EDGE}


class FixedRouter(TaskRouter):
    """The pinned route, whatever the link is like; what a system without a router does."""

    def route(self, request: Request, state: RouterState) -> Decision:
        """Give the pinned route; `request` and `state` change nothing."""
        del request, state
        return Decision(self.policy.pinned or Route.HYBRID_SPLIT, "fixed")

    def would_ship(self, request: Request, state: RouterState) -> bool:
        """Never: it does not ask how the link fares."""
        del request, state
        return False


@dataclass(frozen=True, slots=True)
class Answered:
    """One request of one node."""

    at_s: float
    phase: str
    outcome: Outcome
    right: bool

    def loss(self, wrong_ms: float = WRONG_MS) -> float:
        """The objective, in ms."""
        latency, late = self.outcome.times_ms.total, self.outcome.times_ms.total > DEADLINE_MS + 20
        return latency + wrong_ms * (late or not self.right) + MS_PER_DOLLAR * self.outcome.cost

    @property
    def way(self) -> str:
        """Where the router sent it: the edge, a split, or the cloud."""
        return "edge" if self.outcome.route in _ON_EDGE else str(self.outcome.route)


@dataclass(slots=True)
class Run:
    """Everything that one node answered, in order of asking."""

    name: str
    answers: list[Answered] = field(default_factory=list)

    def loss(self, phase: str | None = None, wrong_ms: float = WRONG_MS) -> float:
        """Mean over a phase, or over all."""
        losses = [each.loss(wrong_ms) for each in self.answers if phase in {None, each.phase}]
        return sum(losses) / len(losses)

    def switches(self) -> list[str]:
        """When the way changed from one request to the next, to what and for what reason."""
        ordered = sorted(self.answers, key=lambda each: each.at_s)
        changed = [two for one, two in pairwise(ordered) if one.way != two.way]
        return [f"{each.at_s:.1f} s {each.way}: {each.outcome.reason.split(';')[0]}" for each in changed]


def add_options(parser: argparse.ArgumentParser) -> None:
    """How fast, how often, and where a picture goes."""
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--images", type=Path, help="IDX file of test images (default: all 10,000 where installed)")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second of each node")
    parser.add_argument("--rounds", type=int, default=2, help="how often the trace is played, each with other jitter")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, metavar="PNG", help="also draw the first round")


async def run(options: argparse.Namespace) -> Report:
    """Play the trace as often as asked, to all four at once."""
    if options.rate <= 0 or options.rounds < 1:
        msg = f"rate is {options.rate:g} and rounds {options.rounds}; give a rate above 0 and at least one round"
        raise ConfigError(msg)
    if options.plot is not None:
        plots.require(options.plot)
    images = options.images or (WHOLE_TEST_SET if WHOLE_TEST_SET.exists() else TEST_IMAGES)
    source = open_source(images, open_bundle(options.bundle).manifest.sample)
    rounds = []
    async with cloud(Setup(images, options.bundle)) as broker:
        for number in range(options.rounds):
            seed = options.seed + number
            rounds.append(await _play(options, source, (broker.host, broker.port), seed))
    report = Report("trace", rows=[row for number, runs in enumerate(rounds, 1) for row in _rows(number, runs)])
    report.targets = list(_targets(rounds))
    report.notes = list(_notes(options, images.name))
    if options.plot is not None:
        trace_plot.draw(rounds[0], TRACE, options.plot)
        report.notes.append(f"picture: {options.plot}")
    return report


async def _play(options: argparse.Namespace, source: Source, upstream: tuple[str, int], seed: int) -> dict[str, Run]:
    """One round: four nodes, four links, one trace."""
    plan = list(steps(TRACE, seed))
    first = next(step.link for step in plan if step.link is not None)
    async with AsyncExitStack() as stack:
        runs: dict[str, Run] = {}
        shapers: list[Shaper] = []
        nodes: list[EdgeNode] = []
        for name, route in {AUTO: None, **FIXED}.items():
            shaper = await stack.enter_async_context(Shaper(*upstream, first))
            config = NodeConfig(f"trace-{len(nodes)}", policy=TaskRoutingPolicy(pinned=route))
            factory = TaskRouter if route is None else FixedRouter
            opening = open_node(options.bundle, broker=shaper.url, config=config, connect_timeout_s=10, router=factory)
            nodes.append(await stack.enter_async_context(opening))
            await nodes[-1].wait_for_cloud()
            await _lead_in(nodes[-1], source, options.rate)
            shapers.append(shaper)
            runs[name] = Run(name)
        begun = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            group.create_task(play(plan, shapers, begun), name="link")
            for node, each in zip(nodes, runs.values(), strict=True):
                load = _Load(node, source, options.rate, seed, each)
                group.create_task(load.run(plan, begun), name=each.name)
        return runs


async def _lead_in(node: EdgeNode, source: Source, rate: float) -> None:
    """Some requests on the first phase's link, so that no node begins with what it never saw."""
    for index in range(_LEAD_IN):
        await node.infer(source.load(index).array, deadline_ms=DEADLINE_MS)
        await asyncio.sleep(1 / rate)


@dataclass(slots=True)
class _Load:
    """Requests of one node at a steady rate; every node asks about the same image at the same moment."""

    node: EdgeNode
    source: Source
    rate: float
    seed: int
    result: Run

    async def run(self, plan: Sequence[Step], begun: float) -> None:
        """Ask until the trace has ended, then wait for the last answer."""
        order = random.Random(self.seed).sample(range(len(self.source)), len(self.source))
        loop, ends = asyncio.get_running_loop(), sum(phase.seconds for phase in TRACE)
        async with asyncio.TaskGroup() as group:
            for number in range(int(ends * self.rate)):
                at_s = number / self.rate
                await asyncio.sleep(max(0.0, begun + at_s - loop.time()))
                phase = next(step.phase.name for step in reversed(plan) if step.at_s <= at_s)
                group.create_task(self._one(at_s, phase, order[number % len(order)]), name=f"request {number}")

    async def _one(self, at_s: float, phase: str, index: int) -> None:
        sample = self.source.load(index)
        outcome = await self.node.infer(sample.array, deadline_ms=DEADLINE_MS)
        self.result.answers.append(Answered(at_s, phase, outcome, outcome.label == sample.label))


def _rows(number: int, runs: dict[str, Run]) -> Iterable[dict[str, Any]]:
    for name, each in runs.items():
        for phase in (None, *dict.fromkeys(phase.name for phase in TRACE)):
            yield {"round": number, "who": name, "phase": phase or "all", **_row(each, phase)}


def _row(run: Run, phase: str | None) -> dict[str, Any]:
    chosen = [each for each in run.answers if phase in {None, each.phase}]
    outcomes, count = [each.outcome for each in chosen], len(chosen)
    ways = {way: sum(each.way == way for each in chosen) / count for way in ("edge", "hybrid_split", "cloud_only")}
    row = {
        "requests": count,
        "loss_ms": run.loss(phase),
        **Quantiles.of([outcome.times_ms.total for outcome in outcomes]).fields("ms"),
        "mean_ms": sum(outcome.times_ms.total for outcome in outcomes) / count,
        "accuracy": sum(each.right for each in chosen) / count,
        "late": sum(outcome.times_ms.total > DEADLINE_MS + 20 for outcome in outcomes) / count,
        "bytes_up": sum(outcome.bytes_up for outcome in outcomes) / count,
        "cost_usd": sum(outcome.cost for outcome in outcomes) / count,
        "escalated": sum(outcome.escalated for outcome in outcomes) / count,
        "ways": ways,
    }
    if phase is None:
        row["switches"] = run.switches()
        row["loss_ms_if_wrong_is"] = {f"{ms:g}": run.loss(wrong_ms=ms) for ms in OTHER_WRONG_MS}
    return row


def _targets(rounds: Sequence[dict[str, Run]]) -> Iterable[Target]:
    ratios = [_over_best(runs) for runs in rounds]
    changes = len(TRACE) - 1
    yield Target("loss over the best fixed choice's, worst round", max(ratios), "<=", 1.05)
    switches = max(len(runs[AUTO].switches()) for runs in rounds)
    yield Target("switches of the router per real change of the link", switches / changes, "<=", 1.0)
    late = max(_row(runs[AUTO], None)["late"] for runs in rounds)
    yield Target("answers of the router over 20 ms after their deadline", late, "<=", 0.0)


def _over_best(runs: dict[str, Run], wrong_ms: float = WRONG_MS) -> float:
    return runs[AUTO].loss(wrong_ms=wrong_ms) / min(runs[name].loss(wrong_ms=wrong_ms) for name in FIXED)


def _notes(options: argparse.Namespace, images: str) -> Iterable[str]:
    yield f"objective: latency, + {WRONG_MS:g} ms where wrong or late, + {MS_PER_DOLLAR:g} ms a dollar; less is better"
    yield f"deadline {DEADLINE_MS:g} ms, {options.rate:g} requests a second of each node, images of {images}"
    for phase in TRACE:
        yield f"{phase.name}, {phase.seconds:g} s: {_words(phase)}"


def _words(phase: Phase) -> str:
    return "nothing arrives" if phase.link is None else f"{phase.link}, both within some 6 %"
