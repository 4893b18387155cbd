"""Workers that come and go under load on a real broker: without one retry, no frame is lost and none answered twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker.address import BrokerAddress
from broker.bus import Message, QoS
from broker.engines import EngineName, start_broker
from broker.link import Link, LinkConfig
from broker.presence import Announcer
from cloud_worker.settings import WorkerSettings
from cloud_worker.tails import NoOpTail
from cloud_worker.worker import Worker, served
from schemas.messages import Work
from schemas.topics import Topics
from schemas.wire import encode_work
from tests.bundles import MINMAX_POINT, tiny_manifest
from tests.engines import ENGINES, need

TOPICS = Topics()
NODE = "cam-1"
MANIFEST = tiny_manifest()
LIMIT_S = 20.0
WINDOW, FRAMES_A_LIFE, LIVES = 32, 300, 4


@asynccontextmanager
async def working(url: str, name: str, qos: QoS) -> AsyncIterator[Worker]:
    """A worker that is ready; on exit it has drained."""
    tail, ready, stop = NoOpTail(MANIFEST), asyncio.Event(), asyncio.Event()
    announcer = Announcer("worker", name, served([tail]), TOPICS)
    async with Link(LinkConfig(BrokerAddress.parse(url), client_id=name), announcer) as link:
        await link.wait_connected(LIMIT_S)
        worker = Worker(link, [tail], announcer, WorkerSettings(work_qos=qos), on_ready=ready.set)
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(worker.run(stop))
            await ready.wait()
            yield worker
            stop.set()
            await running


class Stream:
    """A node that always has a window of frames in flight, and notes every reply."""

    def __init__(self, link: Link, qos: QoS) -> None:
        self._link, self._qos = link, qos
        self._work = encode_work(
            Work(interface=MANIFEST.frame_digest, point=MINMAX_POINT, deadline_ms=60_000, payloads=(bytes(72),))
        )
        self.sent = 0
        self.replies: list[bytes] = []
        self._changed = asyncio.Event()
        self.listening = asyncio.Event()

    async def listen(self) -> None:
        async with self._link.subscribe(TOPICS.reply(NODE), qos=self._qos) as replies:
            self.listening.set()
            async for delivery in replies:
                self.replies.append(delivery.message.correlation or b"")
                delivery.ack()
                self._changed.set()

    async def send(self) -> None:
        topic = TOPICS.work(MANIFEST.name, MANIFEST.line, NODE)
        while True:
            while self.sent - len(self.replies) >= WINDOW:
                await self.heard()
            await self._link.publish(Message(topic, self._work, self._qos, correlation=self.sent.to_bytes(8, "big")))
            self.sent += 1

    async def heard(self) -> None:
        self._changed.clear()
        async with asyncio.timeout(LIMIT_S):
            await self._changed.wait()

    async def until(self, count: int) -> None:
        while len(self.replies) < count:
            await self.heard()


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("engine", ENGINES)
async def test_workers_that_leave_lose_nothing(engine: EngineName, qos: QoS) -> None:
    async with (
        start_broker(need(engine)) as broker,
        Link(LinkConfig(BrokerAddress.parse(broker.url), client_id=NODE)) as link,
        working(broker.url, "stays", qos),
        asyncio.TaskGroup() as tasks,
    ):
        await link.wait_connected(LIMIT_S)
        stream = Stream(link, qos)
        listener = tasks.create_task(stream.listen())
        await stream.listening.wait()
        sender = tasks.create_task(stream.send())
        for life in range(LIVES):
            async with working(broker.url, "leaves", qos) as leaving:
                await stream.until(len(stream.replies) + FRAMES_A_LIFE)
            assert leaving.counters()["answered"] > 0, f"it got nothing in life {life}"
        sender.cancel()
        await stream.until(stream.sent)
        assert sorted(stream.replies) == [number.to_bytes(8, "big") for number in range(stream.sent)]
        listener.cancel()
