"""A node and real workers on a bus in memory, with a listener that hears every message on the broker.

Made for `tests.virtual_time`: the head runs in the loop's own thread, so that nothing waits for a clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from broker.bus import Message
from broker.memory import MemoryBroker, MemoryBus
from broker.presence import Announcer
from cloud_worker.settings import WorkerSettings
from cloud_worker.tails import Frame, Tail, TailResult
from cloud_worker.worker import Worker, served
from edge_node.node import EdgeNode, NodeConfig, announcer_of
from edge_node.uplink import Uplink
from schemas.bundle import Manifest, Part
from schemas.bundle_files import Bundle
from schemas.messages import Answer, Presence, PresenceState
from schemas.policy import Route, TaskRoutingPolicy
from schemas.topics import Topics
from schemas.wire import decode_map

TOPICS = Topics()
NODE_ID = "cam-1"
QUIET_S = 1e6
"""No stats meanwhile, so that whatever is heard was said for a request."""
HYBRID = TaskRoutingPolicy(pinned=Route.HYBRID_SPLIT)
CLOUD = TaskRoutingPolicy(pinned=Route.CLOUD_ONLY)
EDGE = TaskRoutingPolicy(pinned=Route.EDGE_ONLY)
PRIVATE = TaskRoutingPolicy(
    privacy_weight=1, latency_weight=0, cost_weight=0, complexity_weight=0, edge_preference=0.6, cloud_preference=0.2
)
"""Routes by privacy alone: public to the cloud, internal split, confidential to the edge."""


class InlineExecutor(Executor):
    """Runs what it is given at once, where it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - as any executor
            future.set_exception(error)
        return future


class SteadyTail:
    """Answers the same to every payload, after `takes_s`, or raises."""

    def __init__(
        self, manifest: Manifest, confidence: float = 0.99, takes_s: float = 0.0, failure: Exception | None = None
    ) -> None:
        self._manifest, self.confidence, self.takes_s, self.failure = manifest, confidence, takes_s, failure
        self.frames = 0

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    async def run(self, part: Part, frames: Sequence[Frame]) -> TailResult:
        assert {frame.point.part for frame in frames} == {part}
        self.frames += len(frames)
        await asyncio.sleep(self.takes_s)
        if self.failure is not None:
            raise self.failure
        answer = Answer(label=2, confidence=self.confidence)
        return TailResult(tuple((answer,) * len(frame.payloads) for frame in frames), self.takes_s)


@dataclass
class Stage:
    """What a test sees and does."""

    broker: MemoryBroker
    bus: MemoryBus
    node: EdgeNode
    heard: list[Message]
    workers: list[MemoryBus] = field(default_factory=list)

    @property
    def uplink(self) -> Uplink:
        assert self.node.uplink is not None
        return self.node.uplink

    def topics(self) -> list[str]:
        """What each heard message is, by its topic's second level."""
        return [message.topic.split("/")[1] for message in self.heard]

    def pending(self) -> int:
        """Requests that wait for a reply, and places taken in the window."""
        return self.uplink._requester.statistics().pending + self.uplink.window.in_flight


@asynccontextmanager
async def staged(
    bundle: Bundle,
    *tails: Tail,
    policy: TaskRoutingPolicy = HYBRID,
    settings: WorkerSettings | None = None,
    claims: Manifest | None = None,
    publish_outcomes: bool = False,
) -> AsyncIterator[Stage]:
    """A node that has found one worker for each tail, or none; what is heard begins with the first request."""
    broker = MemoryBroker()
    config = NodeConfig(NODE_ID, policy=policy, publish_outcomes=publish_outcomes, stats_every_s=QUIET_S)
    announcer = announcer_of(bundle, config)
    async with AsyncExitStack() as stack:
        heard = await stack.enter_async_context(listening(broker))
        workers = [
            await stack.enter_async_context(working(broker, f"w{number}", tail, settings, claims))
            for number, tail in enumerate(tails)
        ]
        bus = await stack.enter_async_context(MemoryBus(broker, announcer))
        node = inline(EdgeNode(bundle, config, bus, announcer, clock=asyncio.get_running_loop().time))
        await stack.enter_async_context(node)
        await node.wait_for_cloud()
        await asyncio.sleep(0)
        heard.clear()
        yield Stage(broker, bus, node, heard, workers)


def inline(node: EdgeNode) -> EdgeNode:
    """The node with its head in the loop's own thread; before it is entered."""
    node._executor = node._orchestrator.executor = InlineExecutor()  # type: ignore[assignment]
    return node


@asynccontextmanager
async def listening(broker: MemoryBroker) -> AsyncIterator[list[Message]]:
    """Everything that anybody publishes, in order."""
    heard: list[Message] = []

    async def listen() -> None:
        async for delivery in subscription:
            heard.append(delivery.message)  # noqa: PERF401 - one by one, as they come

    async with (
        asyncio.TaskGroup() as tasks,
        MemoryBus(broker) as bus,
        bus.subscribe("#", limit=1 << 20) as subscription,
    ):
        tasks.create_task(listen(), name="listener")
        yield heard


@asynccontextmanager
async def working(
    broker: MemoryBroker,
    id_: str,
    tail: Tail,
    settings: WorkerSettings | None = None,
    claims: Manifest | None = None,
) -> AsyncIterator[MemoryBus]:
    """A worker that is ready, by its bus; it announces what it serves, or `claims` in its stead."""
    serves = served([tail])
    if claims is not None:
        serves = (serves[0].model_copy(update={"interface": claims.interface}),)
    announcer = Announcer("worker", id_, serves, TOPICS)
    ready, stop = asyncio.Event(), asyncio.Event()
    quiet = replace(settings or WorkerSettings(), stats_every_s=QUIET_S)
    async with MemoryBus(broker, announcer) as bus, asyncio.TaskGroup() as tasks:
        clock = asyncio.get_running_loop().time
        worker = Worker(bus, [tail], announcer, quiet, clock=clock, on_ready=ready.set)
        tasks.create_task(worker.run(stop), name=id_)
        await ready.wait()
        try:
            yield bus
        finally:
            stop.set()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something has made it true."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


def states(heard: Sequence[Message], kind: str) -> list[PresenceState]:
    """Presence of the edges or the workers, as it was published."""
    said = [message for message in heard if message.topic.startswith(f"{TOPICS.root}/p/{kind}/")]
    return [decode_map(Presence, message.payload).state for message in said]
