"""A worker on a bus in memory, with a node, an operator who listens to everything, and a tail under control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Self

from broker.bus import Delivery, Message, QoS, Subscription, SubscriptionStatistics
from broker.memory import MemoryBroker, MemoryBus
from broker.presence import Announcer
from cloud_worker.settings import WorkerSettings
from cloud_worker.tails import Frame, TailResult
from cloud_worker.worker import Worker, served
from schemas.bundle import Manifest, Part
from schemas.errors import DecodeError
from schemas.messages import Answer, DeadLetter, Presence, PresenceState, Reply, Stats, Work
from schemas.topics import Topics
from schemas.wire import decode_map, decode_reply, encode_work
from tests.bundles import MINMAX_POINT, tiny_manifest

TOPICS = Topics()
NODE = "cam-1"
GOOD, BAD = b"good", b"bad"
LIMIT_S = 60.0


class GateTail:
    """Label = length of the payload; waits at its gate, which is open at first, and raises `failure` when set."""

    def __init__(self, manifest: Manifest | None = None) -> None:
        self._manifest = manifest or tiny_manifest()
        self.gate = asyncio.Event()
        self.gate.set()
        self.started = asyncio.Event()
        self.failure: Exception | None = None
        self.batches: list[list[Frame]] = []

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    async def run(self, part: Part, frames: Sequence[Frame]) -> TailResult:
        assert {frame.point.part for frame in frames} == {part}
        self.batches.append(list(frames))
        self.started.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return TailResult(tuple(_end(frame) for frame in frames), compute_s=0.004)


def _end(frame: Frame) -> tuple[Answer, ...] | Exception:
    if BAD in frame.payloads:
        return DecodeError("it is bad")
    return tuple(Answer(label=len(payload), confidence=0.5) for payload in frame.payloads)


class LoggingBus(MemoryBus):
    """A MemoryBus that notes replies and acknowledgements in the order in which they happen."""

    def __init__(self, broker: MemoryBroker, announcer: Announcer) -> None:
        super().__init__(broker, announcer)
        self.log: list[tuple[str, bytes | None]] = []

    @asynccontextmanager
    async def subscribe(self, topic_filter: str, *, qos: QoS = 0, limit: int = 1024) -> AsyncIterator[Subscription]:
        async with super().subscribe(topic_filter, qos=qos, limit=limit) as inner:
            yield _LoggedSubscription(inner, self.log)

    async def publish(self, message: Message) -> None:
        await super().publish(message)
        if message.topic.startswith(TOPICS.reply(NODE)):
            self.log.append(("reply", message.correlation))


class _LoggedSubscription:
    """A subscription whose deliveries note that they were acknowledged."""

    def __init__(self, inner: Subscription, log: list[tuple[str, bytes | None]]) -> None:
        self.filter = inner.filter
        self._inner, self._log = inner, log

    def statistics(self) -> SubscriptionStatistics:
        return self._inner.statistics()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        delivery = await anext(self._inner)

        def ack() -> None:
            self._log.append(("ack", delivery.message.correlation))
            delivery.ack()

        return replace(delivery, ack=ack)


@dataclass
class Stage:
    """Everything that a test sees and does."""

    broker: MemoryBroker
    node: MemoryBus
    bus: LoggingBus
    tail: GateTail
    worker: Worker
    stop: asyncio.Event
    replies: list[Message] = field(default_factory=list)
    letters: list[tuple[str, DeadLetter]] = field(default_factory=list)
    states: list[PresenceState] = field(default_factory=list)
    stats: list[Stats] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def message(self, correlation: bytes | None = b"00000001", *payloads: bytes, deadline_ms: int = 10_000) -> Message:
        """A good frame."""
        work = Work(
            interface=self.tail.manifest.frame_digest,
            point=MINMAX_POINT,
            deadline_ms=deadline_ms,
            payloads=payloads or (GOOD,),
        )
        return self.wrap(encode_work(work), correlation)

    def wrap(self, payload: bytes, correlation: bytes | None = b"00000001") -> Message:
        """Any bytes in a good envelope."""
        manifest = self.tail.manifest
        return Message(TOPICS.work(manifest.name, manifest.line, NODE), payload, correlation=correlation)

    async def ask(self, message: Message) -> Reply:
        """Send a frame and wait for the next reply."""
        before = len(self.replies)
        await self.node.publish(message)
        await self.until(lambda: len(self.replies) > before)
        return decode_reply(self.replies[-1].payload)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was heard makes it true."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                self.heard.clear()
                await self.heard.wait()

    async def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        await asyncio.sleep(0.001)

    def answered(self) -> dict[bytes, Reply]:
        """The last reply to each correlation."""
        return {each.correlation or b"": decode_reply(each.payload) for each in self.replies}

    async def hear(self, subscription: Subscription) -> None:
        """Sort what comes in."""
        async for delivery in subscription:
            message = delivery.message
            self._sort(message)
            self.heard.set()

    def _sort(self, message: Message) -> None:
        kind = message.topic.split("/")[1]
        if kind == "r":
            self.replies.append(message)
        elif kind == "d":
            self.letters.append((message.topic, decode_map(DeadLetter, message.payload)))
        elif kind == "p":
            self.states.append(decode_map(Presence, message.payload).state)
        elif kind == "s":
            self.stats.append(decode_map(Stats, message.payload))


@asynccontextmanager
async def staged(settings: WorkerSettings | None = None, tail: GateTail | None = None) -> AsyncIterator[Stage]:
    """A worker that is ready; on exit it was told to stop and has ended."""
    tail = tail or GateTail()
    broker, stop, ready = MemoryBroker(), asyncio.Event(), asyncio.Event()
    announcer = Announcer("worker", "w1", served([tail]), TOPICS)
    clock = asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as tasks, MemoryBus(broker) as node, LoggingBus(broker, announcer) as bus:
        worker = Worker(bus, [tail], announcer, settings, clock=clock, on_ready=ready.set)
        stage = Stage(broker, node, bus, tail, worker, stop)
        async with node.subscribe(f"{TOPICS.root}/#") as everything:
            listener = tasks.create_task(stage.hear(everything))
            running = tasks.create_task(worker.run(stop))
            await ready.wait()
            await stage.settle()
            yield stage
            stop.set()
            await running
            await stage.settle()
        await listener
