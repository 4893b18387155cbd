"""An edge node: the small public API that a program of your own can import.

async with open_node("bundle/", config=NodeConfig("pi-7"), broker="mqtt://broker.local") as node:
    outcome = await node.infer(image, privacy=PrivacyLevel.INTERNAL, deadline_ms=200)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

from broker.address import BrokerAddress
from broker.bus import Bus, Message, Subscription
from broker.link import Link, LinkConfig
from broker.presence import Announcer, Roster
from broker.replies import open_requester
from edge_node.bar import Bar
from edge_node.config import NodeConfig, announcer_of
from edge_node.estimates import Estimates
from edge_node.heads import open_head
from edge_node.orchestrator import EdgeCloudOrchestrator
from edge_node.router import Request, TaskRouter
from edge_node.tally import Tally
from edge_node.uplink import Uplink
from schemas.bundle_files import Bundle, open_bundle
from schemas.errors import LinkError, WireError
from schemas.exit_gauges import exit_gauges
from schemas.messages import Outcome, PresenceState, Stats
from schemas.policy import Priority, PrivacyLevel, TaskRoutingPolicy
from schemas.tensor import Array
from schemas.topics import Topics
from schemas.wire import encode_map, encode_outcome

__all__ = ["EdgeNode", "NodeConfig", "announcer_of", "open_node"]

RouterFactory = Callable[[TaskRoutingPolicy], TaskRouter]
_ROSTER_WAIT_S = 2.0
_PUBLISH_S = 0.01
"""Longest that an outcome keeps its caller waiting for the broker's socket to take it."""


class EdgeNode:
    """One model's head and exit on this device, and the way to its other half. An async context manager.

    Without a bus, or while the broker or the workers are away, every answer comes from the edge.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: NodeConfig,
        bus: Bus | None = None,
        announcer: Announcer | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        router: RouterFactory = TaskRouter,
    ) -> None:
        """`announcer` is the one that `bus` takes birth and will from, so that it knows of the goodbye too.

        `clock` measures how long the cloud's replies take. `router` makes the router of a policy, for one of your own.
        """
        self.bundle = bundle
        self.config = config
        self.announcer = announcer or announcer_of(bundle, config)
        self.topics = Topics(config.root)
        self.roster = Roster(self.topics)
        self._bus = bus
        self._stack = AsyncExitStack()
        self._clock = clock
        self._tally = Tally()
        self._presences: Subscription | None = None
        self._codecs = bundle.codecs()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="head")
        self._worker_seen = asyncio.Event()
        self._orchestrator = EdgeCloudOrchestrator(
            node=config.node_id,
            manifest=bundle.manifest,
            head=open_head(bundle, config.runtime),
            executor=self._executor,
            router=router(config.policy),
            estimates=Estimates(max_payload={each: codec.max_payload for each, codec in self._codecs.items()}),
            uplink=None,
            certificate=None if config.runtime == "int8" else bundle.certificate(),  # which is of the float head
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.callback(self._executor.shutdown)
            if self._bus is not None:
                await self._attach(self._bus, stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Say goodbye, then stop what runs in the background."""
        await self._stack.aclose()

    @property
    def runtime(self) -> str:
        """What runs the head."""
        return self._orchestrator.head.runtime

    @property
    def bar(self) -> Bar | None:
        """By what an answer of the exit is sure, and what that promises; None for a bundle without an exit."""
        return self._orchestrator.bar

    @property
    def uplink(self) -> Uplink | None:
        """The way to the workers; None for a node without a bus."""
        return self._orchestrator.uplink

    def obstacle(self) -> str:
        """What keeps this node from the cloud at this moment, in words; empty when nothing does."""
        if isinstance(self._bus, Link) and not self._bus.connected:
            return f"not connected to the broker: {self._bus.last_error}"
        return "this node has no broker" if self.uplink is None else self.uplink.obstacle()

    async def infer(
        self,
        sample: Array,
        *,
        privacy: PrivacyLevel = PrivacyLevel.PUBLIC,
        deadline_ms: float = 1000.0,
        max_cost: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Outcome:
        """One answer to one sample: an array of the manifest's sample spec, without a batch dimension.

        Always ends in exactly one outcome, whatever becomes of broker and workers, by the deadline as far
        as this device's own head allows. Calls may run side by side. Raises SampleError for a sample of
        another dtype or shape, ConfigError for a privacy, deadline or cost that is none, and what the head raises.
        """
        outcome = await self._orchestrator.infer(sample, Request(privacy, deadline_ms, max_cost, priority))
        self._tally.add(outcome)
        await self._publish(outcome)
        return outcome

    async def wait_for_cloud(self, timeout_s: float = _ROSTER_WAIT_S) -> bool:
        """Wait until a worker for this very bundle is alive; False when there is none in time."""
        uplink = self.uplink
        if uplink is None or self._bus is None:
            return False
        with contextlib.suppress(TimeoutError, LinkError):
            async with asyncio.timeout(timeout_s):
                await self._bus.wait_connected()
                while not uplink.available():
                    self._worker_seen.clear()
                    await self._worker_seen.wait()
                    await self._bus.wait_connected()
        return uplink.available()

    async def _attach(self, bus: Bus, stack: AsyncExitStack) -> None:
        """Everything that runs over the bus for as long as the node lives."""
        requester = await stack.enter_async_context(
            open_requester(bus, self.topics.reply(self.config.node_id), qos=self.config.work_qos, clock=self._clock)
        )
        uplink = Uplink(
            manifest=self.bundle.manifest,
            codecs=self._codecs,
            node=self.config.node_id,
            topics=self.topics,
            bus=bus,
            requester=requester,
            roster=self.roster,
            estimates=self._orchestrator.estimates,
            executor=self._executor,
            qos=self.config.work_qos,
        )
        await uplink.warm_up()
        self._orchestrator.uplink = uplink
        stack.push_async_callback(self._orchestrator.background.aclose)
        for name, job in {"roster": self._follow_workers(bus), "stats": self._report(bus)}.items():
            task = asyncio.create_task(job, name=f"{name} of {self.config.node_id}")
            stack.push_async_callback(_cancelled, task)
        stack.push_async_callback(self._say_goodbye, bus)

    async def _say_goodbye(self, bus: Bus) -> None:
        with contextlib.suppress(LinkError, WireError):
            await self.announcer.announce(bus, PresenceState.STOPPED)

    async def _follow_workers(self, bus: Bus) -> None:
        async with bus.subscribe(self.topics.presence_of_all("worker"), qos=1) as subscription:
            self._presences = subscription
            async for delivery in subscription:
                self.roster.update(delivery.message)
                self._worker_seen.set()
                delivery.ack()

    async def _report(self, bus: Bus) -> None:
        """Publish counters every few seconds; what cannot be sent is sent with the next."""
        topic = self.topics.stats("edge", self.config.node_id)
        while True:
            await asyncio.sleep(self.config.stats_every_s)
            with contextlib.suppress(LinkError, WireError):
                await bus.publish(Message(topic, encode_map(self.statistics())))

    def statistics(self) -> Stats:
        """Counters since the start and gauges of this moment; of restricted requests they say nothing."""
        troubles = {} if self.uplink is None else self.uplink.counters()
        if self._presences is not None:
            troubles["presences_dropped"] = self._presences.statistics().dropped
        troubles["probes"] = self._orchestrator.probes.sent
        gauges = self._orchestrator.estimates.gauges()
        if self.uplink is not None:
            gauges |= self.uplink.gauges()
        if self.bar is not None:
            gauges |= exit_gauges(self.bar.threshold, self.bar.certificate)
        return self._tally.stats(self.config.node_id, troubles, gauges)

    async def _publish(self, outcome: Outcome) -> None:
        if not self.config.publish_outcomes or self._bus is None or outcome.privacy is PrivacyLevel.RESTRICTED:
            return
        topic = self.topics.outcome(self.config.node_id, outcome.model)
        with contextlib.suppress(LinkError, WireError, TimeoutError):
            async with asyncio.timeout(_PUBLISH_S):
                await self._bus.publish(Message(topic, encode_outcome(outcome), qos=0))


@asynccontextmanager
async def open_node(
    bundle: Bundle | Path | str,
    *,
    broker: str | None = None,
    config: NodeConfig,
    connect_timeout_s: float | None = None,
    router: RouterFactory = TaskRouter,
) -> AsyncIterator[EdgeNode]:
    """A node with its own connection to `broker`, or without any; the options are those of EdgeNode.

    With `connect_timeout_s` the broker must answer within it (BrokerUnavailableError, BrokerRefusedError);
    without, the node answers from the edge until the broker appears. Raises BundleError for a bundle that
    cannot be used.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    if broker is None:
        async with EdgeNode(opened, config, router=router) as node:
            yield node
        return
    link_config = LinkConfig(BrokerAddress.parse(broker), config.node_id)
    announcer = announcer_of(opened, config)
    async with Link(link_config, announcer) as link, EdgeNode(opened, config, link, announcer, router=router) as node:
        if connect_timeout_s is not None:
            await link.wait_connected(connect_timeout_s)
        yield node


async def _cancelled(task: asyncio.Task[None]) -> None:
    """End a task; what it failed with comes out here, and a cancellation of the caller stays the caller's."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
