"""A worker: shared subscriptions of its lines -> batches -> replies, from its birth to its drained end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from broker.bus import Bus, Message, Subscription
from broker.presence import Announcer
from cloud_worker.answered import Answered
from cloud_worker.batcher import Batcher, BatcherStatistics
from cloud_worker.dead_letters import DeadLetters
from cloud_worker.desk import Desk, FrameBatcher, run_jobs
from cloud_worker.envelope import LineKey
from cloud_worker.settings import WorkerSettings
from cloud_worker.tails import Tail
from cloud_worker.tally import Tally
from schemas.errors import ConfigError, LinkError, NotConnectedError, TooLargeError
from schemas.messages import PresenceState, Served
from schemas.wire import encode_map

_LOOK_S = 1.0
"""How often at most the progress is looked at."""

logger = logging.getLogger(__name__)


def served(tails: Sequence[Tail]) -> tuple[Served, ...]:
    """What the presence says of these tails. Raises ConfigError when two are of one line of one model."""
    manifests = [tail.manifest for tail in tails]
    lines = [(manifest.name, manifest.line) for manifest in manifests]
    for model, line in lines:
        if lines.count((model, line)) > 1:
            msg = f"two bundles are of {model} {line}; give one bundle for each line"
            raise ConfigError(msg)
    return tuple(
        Served(model=each.name, line=each.line, version=each.cloud_version, interface=each.interface)
        for each in manifests
    )


class Worker:
    """Serves tails on a bus until it is told to stop.

    - A frame that was received before the unsubscription is answered before `run` returns, unless `grace_s`
      are over. One bad frame, one failed batch or a link that is down for a while loses nothing else.
    - When work is under way and nothing ends for `stuck_after_s`, it leaves its subscriptions, says so by
      presence, and comes back when something has ended: a broker keeps dealing to a member that is stuck.
    """

    def __init__(
        self,
        bus: Bus,
        tails: Sequence[Tail],
        announcer: Announcer,
        settings: WorkerSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._bus, self._announcer, self._clock, self._on_ready = bus, announcer, clock, on_ready
        self._settings = settings or WorkerSettings()
        self._lines: dict[LineKey, Tail] = {
            (each.model, each.line): tail for each, tail in zip(served(tails), tails, strict=True)
        }
        self._tally = Tally()
        self._batcher: FrameBatcher = Batcher(
            lambda jobs: run_jobs(jobs, self._tally),
            max_batch=self._settings.max_batch,
            max_delay_s=self._settings.max_delay_s,
            max_queue=self._settings.max_queue,
            clock=clock,
        )
        self._desk = self._make_desk()
        self._changed = asyncio.Event()
        self._stopping = self._stuck = False

    def statistics(self) -> BatcherStatistics:
        """How the queue fares."""
        return self._batcher.statistics()

    def counters(self) -> dict[str, int]:
        """Everything that was counted since the start, by name."""
        return self._tally.counters()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain. `on_ready` is called when all lines are subscribed.

        Raises, in an exception group, BrokerRefusedError when the broker does not grant a subscription.
        """
        try:
            async with asyncio.TaskGroup() as chores:
                await self._serve(stop, chores)
        finally:
            await self._announce(PresenceState.STOPPED)

    async def _serve(self, stop: asyncio.Event, chores: asyncio.TaskGroup) -> None:
        running = [chores.create_task(self._batcher.serve(), name="batcher")]
        try:
            async with asyncio.timeout(None) as grace, asyncio.TaskGroup() as frames:
                running += [
                    chores.create_task(self._watch_stop(stop, grace), name="stop"),
                    chores.create_task(self._watch_progress(), name="progress"),
                    chores.create_task(self._tell_stats(), name="stats"),
                ]
                await self._live(frames)
                await self._batcher.drain()  # nobody else comes, so nobody waits for company
        except TimeoutError:
            logger.error("the tail did not finish within %g s; what it held is lost", self._settings.grace_s)  # noqa: TRY400  no trace is needed
        finally:
            for chore in running:
                chore.cancel()

    async def _live(self, frames: asyncio.TaskGroup) -> None:
        """Subscribed and not, by turns, until the end; on return nothing more is received."""
        while not self._stopping:
            async with self._subscribed(frames):
                await self._announce(PresenceState.ONLINE)
                self._on_ready()
                await self._until(lambda: self._stopping or self._stuck)
                await self._announce(PresenceState.DRAINING if self._stopping else PresenceState.STUCK)
            await self._until(lambda: self._stopping or not self._stuck)

    @asynccontextmanager
    async def _subscribed(self, frames: asyncio.TaskGroup) -> AsyncIterator[None]:
        """Frames of every line come in; on exit those that were received have become tasks of `frames`."""
        async with asyncio.TaskGroup() as readers, AsyncExitStack() as stack:
            for model, line in self._lines:
                topic_filter = self._announcer.topics.work_shared(model, line)
                subscription = await self._enter(stack, topic_filter)
                readers.create_task(self._read(subscription, frames), name=f"read {model} {line}")
            yield

    async def _enter(self, stack: AsyncExitStack, topic_filter: str) -> Subscription:
        while True:
            try:
                return await stack.enter_async_context(self._bus.subscribe(topic_filter, qos=self._settings.work_qos))
            except NotConnectedError:
                await self._bus.wait_connected()

    async def _read(self, subscription: Subscription, frames: asyncio.TaskGroup) -> None:
        """The batcher's bound is the bound of these tasks: beyond it a frame is refused at once."""
        async for delivery in subscription:
            frames.create_task(self._desk.handle(delivery), name="frame")

    async def _watch_stop(self, stop: asyncio.Event, grace: asyncio.Timeout) -> None:
        await stop.wait()
        grace.reschedule(asyncio.get_running_loop().time() + self._settings.grace_s)
        self._stopping = True
        self._changed.set()

    async def _watch_progress(self) -> None:
        pause = min(_LOOK_S, self._settings.stuck_after_s / 4)
        while True:
            await asyncio.sleep(pause)
            state = self._batcher.statistics()
            quiet_s = self._clock() - state.last_progress
            stuck = bool(state.queued or state.running) and quiet_s > self._settings.stuck_after_s
            if stuck == self._stuck:
                continue
            if stuck:
                self._tally.add("stuck")
                logger.error("nothing ended for %.0f s; leaving the subscriptions until something does", quiet_s)
            else:
                logger.warning("batches end again; coming back")
            self._stuck = stuck
            self._changed.set()

    async def _tell_stats(self) -> None:
        topics, id_ = self._announcer.topics, self._announcer.id
        started = self._clock()
        while True:
            await asyncio.sleep(self._settings.stats_every_s)
            stats = self._tally.stats(id_, self._clock() - started, self._batcher.statistics())
            with suppress(LinkError, TooLargeError):
                await self._bus.publish(Message(topics.stats("worker", id_), encode_map(stats)))

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def _announce(self, state: PresenceState) -> None:
        """Say it if that is possible; else the next birth does."""
        try:
            await self._announcer.announce(self._bus, state)
        except (LinkError, TooLargeError) as error:
            logger.warning("presence %s not published: %s", state.value, error)

    def _make_desk(self) -> Desk:
        settings, topics = self._settings, self._announcer.topics
        return Desk(
            self._bus,
            topics,
            self._lines,
            self._batcher,
            answered=Answered(limit=settings.replies_kept, age_s=settings.replies_kept_s, clock=self._clock),
            dead_letters=DeadLetters(self._bus, topics, self._announcer.id, self._tally, self._clock),
            tally=self._tally,
            clock=self._clock,
            qos=settings.work_qos,
            max_frame_bytes=settings.max_frame_bytes,
        )
