"""`edge-node run`: the samples of a source through a node, one line an outcome."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TextIO

from broker.process import until_stopped
from edge_node.node import EdgeNode, NodeConfig, open_node
from edge_node.options import ROUTES
from edge_node.sources import Sample, Source, open_source
from schemas.bundle import Manifest
from schemas.bundle_files import open_bundle
from schemas.errors import SampleError
from schemas.leakage import LEAST_SAMPLES
from schemas.messages import Outcome
from schemas.policy import TaskRoutingPolicy

Options = Mapping[str, Any]

logger = logging.getLogger(__name__)


async def stream(options: Options, stop: asyncio.Event) -> None:
    """Answer every sample of the source, then print a summary on stderr.

    A sample that cannot be read is said and counted, the next one is taken; a SampleError at the end says how
    many there were. When `stop` is set, what is in flight is finished and nothing new begun.
    """
    bundle = open_bundle(options["bundle"])
    source = open_source(options["source"], bundle.manifest.sample)
    config = NodeConfig(
        node_id=options["id"],
        root=options["root"],
        policy=TaskRoutingPolicy(pinned=ROUTES[options["route"]], max_ssim=options["max-ssim"]),
        runtime=options["runtime"],
        work_qos=options["work-qos"],
        publish_outcomes=options["publish-outcomes"],
    )
    _warn_of_few(bundle.manifest, config.policy)
    timeout = None if options["offline-ok"] else options["connect-timeout"]
    async with AsyncExitStack() as stack:
        opening = open_node(bundle, broker=options["broker"], config=config, connect_timeout_s=timeout)
        node = await until_stopped(stop, stack.enter_async_context(opening))
        if node is not None and options["broker"] is not None:
            await _look_for_the_cloud(node, stop)
        if node is None or stop.is_set():
            return
        sys.stderr.write(f"{_ready(node)}\n")
        sys.stderr.flush()
        # one thread: decoding must not hold up the loop, and the pixels of several large images the memory
        loader = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="source"))
        summary = await _Streamer(node, options, stop, loader).run(source)
    sys.stderr.write(f"edge-node: {summary.line()}\n")
    if summary.bad:
        msg = f"{summary.bad} of {summary.bad + summary.ended} samples could not be read; each was named when skipped"
        raise SampleError(msg)


def _warn_of_few(manifest: Manifest, policy: TaskRoutingPolicy) -> None:
    """Say which points keep to `max_ssim` by a figure of so few samples that it bounds nothing."""
    for point in manifest.points:
        found = point.leakage
        if policy.max_ssim is not None and found is not None and found.few and not policy.over_max_ssim(point.ssim):
            told = f"was measured with {found.samples} samples, which bounds nothing; measure it with {LEAST_SAMPLES}"
            logger.warning("point %d is within --max-ssim, but its SSIM %s or more", point.id, told)


async def _look_for_the_cloud(node: EdgeNode, stop: asyncio.Event) -> None:
    """Wait a moment for a worker, and say why there is none."""
    if not await until_stopped(stop, node.wait_for_cloud()) and not stop.is_set():
        logger.warning("%s; answering from the edge until that changes", node.obstacle())


@dataclass(slots=True)
class _Summary:
    """What became of the samples."""

    ended: int = 0
    bad: int = 0
    right: int = 0
    labelled: int = 0
    sources: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """One line for people."""
        parts = [f"{self.ended} answered"]
        parts += [f"{count} from {source}" for source, count in sorted(self.sources.items())]
        if self.bad:
            parts.append(f"{self.bad} unreadable")
        if self.labelled:
            parts.append(f"{100 * self.right / self.labelled:.1f} % right")
        return ", ".join(parts)


class _Streamer:
    """Keeps up to `concurrency` samples in flight, at no more than `rate` a second; they are read in `loader`."""

    def __init__(self, node: EdgeNode, options: Options, stop: asyncio.Event, loader: Executor) -> None:
        self._node, self._options, self._stop, self._loader = node, options, stop, loader
        self._out: TextIO = sys.stdout
        self._summary = _Summary()

    async def run(self, source: Source) -> _Summary:
        """Stream until the source or `count` ends, or until stopped."""
        places = asyncio.Semaphore(self._options["concurrency"])
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as group:
            for index in self._indices(len(source)):
                await places.acquire()
                await self._pause_until(due)
                if self._stop.is_set():
                    break
                if self._options["rate"]:
                    due = max(due, loop.time() - 1.0) + 1.0 / self._options["rate"]
                task = group.create_task(self._one(source, index), name=f"sample {index}")
                task.add_done_callback(lambda _: places.release())
        return self._summary

    def _indices(self, length: int) -> Iterator[int]:
        first, step = self._options["shard"]
        once = range(first, length, step)
        endless = itertools.chain.from_iterable(itertools.repeat(once)) if self._options["repeat"] and once else once
        return itertools.islice(endless, self._options["count"])

    async def _pause_until(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        if due <= loop.time():
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout_at(due):
                await self._stop.wait()
        except TimeoutError:
            return

    async def _one(self, source: Source, index: int) -> None:
        try:
            sample = await asyncio.get_running_loop().run_in_executor(self._loader, source.load, index)
        except SampleError as error:
            self._summary.bad += 1
            sys.stderr.write(f"edge-node: skipped: {error}\n")
            return
        options = self._options
        outcome = await self._node.infer(
            sample.array,
            privacy=options["privacy"],
            deadline_ms=options["deadline-ms"],
            max_cost=options["max-cost"],
            priority=options["priority"],
        )
        self._record(sample, outcome)

    def _record(self, sample: Sample, outcome: Outcome) -> None:
        summary = self._summary
        summary.ended += 1
        summary.sources[outcome.source] += 1
        if sample.label is not None:
            summary.labelled += 1
            summary.right += outcome.label == sample.label
        self._say(_line(sample, outcome, as_json=self._options["json"]))

    def _say(self, line: str) -> None:
        """Print a line; when whoever reads has gone, as `| head` does, end as if stopped."""
        try:
            self._out.write(f"{line}\n")
            self._out.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
            self._stop.set()


def _ready(node: EdgeNode) -> str:
    """Who runs what, and what its own answers are worth."""
    interface = node.bundle.manifest.interface[:16]
    worth = "none" if node.bar is None else f'"{node.bar.standing()}"'
    return f"ready id={node.config.node_id} runtime={node.runtime} interface={interface} exit={worth}"


def _line(sample: Sample, outcome: Outcome, *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"sample": sample.name, "truth": sample.label, **outcome.model_dump(mode="json")})
    return (
        f"{sample.name:<24} {outcome.label_name or '-':<16} {outcome.confidence:4.2f}  {outcome.source:<5}"
        f" {outcome.times_ms.total:7.1f} ms {outcome.bytes_up:5d} B up  {outcome.route}: {outcome.reason}"
    )
