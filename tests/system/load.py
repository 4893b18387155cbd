"""Steady load on a node of this process, and how far behind the machine itself was meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from benchmarks.children import Child, child_process, worker_argv
from broker.engines import RunningBroker, start_broker
from edge_node.node import EdgeNode, NodeConfig, open_node
from schemas.bundle_files import Bundle
from schemas.messages import Outcome
from schemas.policy import Route, TaskRoutingPolicy
from tests.bundles import samples

HYBRID = TaskRoutingPolicy(pinned=Route.HYBRID_SPLIT)
LIMIT_S = 45.0
GRACE_MS = 20.0
_TICK_S = 0.01
_SAMPLES = samples(16)


@dataclass
class Load:
    """Requests at a rate, each with its outcome, and the worst delay of a timer of this loop."""

    node: EdgeNode
    deadline_ms: float
    rate: float = 40.0
    asked: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    lag_ms: float = 0.0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def more(self, count: int, matching: Callable[[Outcome], bool] = lambda _: True) -> list[Outcome]:
        """Wait for so many further outcomes that match."""
        first = len(self.outcomes)
        async with asyncio.timeout(LIMIT_S):
            while len(found := [each for each in self.outcomes[first:] if matching(each)]) < count:
                self._news.clear()
                await self._news.wait()
        return found

    async def ask(self, stop: asyncio.Event) -> None:
        """Begin requests until stopped, then wait for the last."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                group.create_task(self._one(self.asked))
                self.asked += 1
                due = max(loop.time(), due + 1 / self.rate)
                await asyncio.sleep(due - loop.time())

    async def watch(self) -> None:
        """Note how late the loop is, which no node can make good."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(_TICK_S)
            self.lag_ms = max(self.lag_ms, (loop.time() - before - _TICK_S) * 1e3)

    async def _one(self, number: int) -> None:
        sample = _SAMPLES[number % len(_SAMPLES)]
        self.outcomes.append(await self.node.infer(sample, deadline_ms=self.deadline_ms))
        self._news.set()

    def check_each_ended_once_and_in_time(self) -> None:
        """Every request has exactly one outcome, with an answer, by its deadline and what the machine was late."""
        assert len(self.outcomes) == self.asked > 0
        assert set(Counter(outcome.request for outcome in self.outcomes).values()) == {1}
        assert {outcome.source for outcome in self.outcomes} <= {"edge", "cloud"}
        worst = max(outcome.times_ms.total for outcome in self.outcomes)
        assert worst <= self.deadline_ms + GRACE_MS + 2 * self.lag_ms, (worst, self.lag_ms)


@asynccontextmanager
async def loaded(node: EdgeNode, deadline_ms: float = 4000.0) -> AsyncIterator[Load]:
    """Load for as long as the context lasts; on exit every request has ended."""
    load, stop = Load(node, deadline_ms), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(load.watch(), name="lag")
        asking = group.create_task(load.ask(stop), name="load")
        yield load
        stop.set()
        await asking
        watch.cancel()


@asynccontextmanager
async def node_of(bundle: Bundle, url: str, name: str = "node-1") -> AsyncIterator[EdgeNode]:
    """A node of this process that is connected."""
    async with open_node(bundle, broker=url, config=NodeConfig(name, policy=HYBRID), connect_timeout_s=20) as node:
        yield node


async def start_workers(stack: AsyncExitStack, bundle: Bundle, url: str, *names: str) -> list[Child]:
    """Worker processes that are ready; they start side by side."""
    workers = [
        await stack.enter_async_context(child_process(name, worker_argv(url, name, bundle=bundle.path)))
        for name in names
    ]
    await asyncio.gather(*(worker.ready() for worker in workers))
    return workers


@asynccontextmanager
async def pipeline(bundle: Bundle, *names: str) -> AsyncIterator[tuple[RunningBroker, list[Child], EdgeNode]]:
    """A broker, worker processes of those names, and a node that sees one of them."""
    async with start_broker() as broker, AsyncExitStack() as stack:
        workers = await start_workers(stack, bundle, broker.url, *names)
        node = await stack.enter_async_context(node_of(bundle, broker.url))
        assert await node.wait_for_cloud(20)
        yield broker, workers, node


def from_cloud(outcome: Outcome) -> bool:
    """Whether a worker answered."""
    return outcome.source == "cloud"
