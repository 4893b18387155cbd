"""A worker's life: birth, stuck and back, drained end; over a bus in memory and in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker.bus import QoS, Subscription
from broker.memory import MemoryBroker, MemoryBus
from broker.presence import Announcer
from cloud_worker.settings import WorkerSettings
from cloud_worker.worker import Worker, served
from schemas.errors import BrokerRefusedError, ConfigError
from schemas.messages import PresenceState, Status
from tests.bundles import tiny_manifest
from tests.cloud_worker.stage import TOPICS, GateTail, staged
from tests.virtual_time import run_virtually

ONLINE, STUCK = PresenceState.ONLINE, PresenceState.STUCK
DRAINING, STOPPED = PresenceState.DRAINING, PresenceState.STOPPED


def test_the_end_answers_everything_that_was_received() -> None:
    async def main() -> None:
        async with staged(WorkerSettings(max_batch=2)) as stage:
            stage.tail.gate.clear()
            for index in range(9):
                await stage.node.publish(stage.message(b"%08d" % index))
            stage.stop.set()
            await stage.until(lambda: DRAINING in stage.states)
            await stage.settle()
            await stage.node.publish(stage.message(b"too-late"))
            assert not stage.replies
            stage.tail.gate.set()
            await stage.until(lambda: STOPPED in stage.states)
            assert sorted(stage.answered()) == [b"%08d" % index for index in range(9)]
            assert {reply.status for reply in stage.answered().values()} == {Status.OK}
            assert [what for what, _ in stage.bus.log].count("ack") == 9
            assert stage.states[-2:] == [DRAINING, STOPPED]

    run_virtually(main())


def test_the_end_comes_after_the_grace_whatever_the_tail_does() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with staged(WorkerSettings(grace_s=20.0)) as stage:
            stage.tail.gate.clear()
            await stage.node.publish(stage.message())
            await stage.tail.started.wait()
            stage.stop.set()
            began = loop.time()
            await stage.until(lambda: STOPPED in stage.states)
            assert loop.time() - began == pytest.approx(20.0, abs=0.1)
            assert stage.bus.log == [], "what was not answered is not acknowledged"

    run_virtually(main())


def test_the_end_waits_for_no_company() -> None:
    async def main() -> None:
        async with staged(WorkerSettings(max_batch=16, max_delay_s=30.0, grace_s=20.0)) as stage:
            for index in range(3):
                await stage.node.publish(stage.message(b"%08d" % index, deadline_ms=600_000))
            began = asyncio.get_running_loop().time()
            stage.stop.set()
            await stage.until(lambda: STOPPED in stage.states)
            assert asyncio.get_running_loop().time() - began < 1.0
            assert {key: reply.status for key, reply in stage.answered().items()} == {
                b"%08d" % index: Status.OK for index in range(3)
            }
            assert [what for what, _ in stage.bus.log].count("ack") == 3
            assert len(stage.tail.batches) == 1

    run_virtually(main())


def test_an_idle_worker_ends_at_once() -> None:
    async def main() -> float:
        async with staged() as stage:
            began = asyncio.get_running_loop().time()
            stage.stop.set()
            await stage.until(lambda: STOPPED in stage.states)
            return asyncio.get_running_loop().time() - began

    assert run_virtually(main()) < 0.1


def test_a_stuck_worker_leaves_its_line_and_comes_back_with_progress() -> None:
    async def main() -> None:
        async with staged(WorkerSettings(max_batch=1, stuck_after_s=30.0)) as stage:
            await asyncio.sleep(100)
            assert stage.states[-1] is ONLINE, "idle is not stuck"
            stage.tail.gate.clear()
            await stage.node.publish(stage.message(b"00000000", deadline_ms=600_000))
            began = asyncio.get_running_loop().time()
            await stage.until(lambda: stage.states[-1] is STUCK)
            assert 30.0 < asyncio.get_running_loop().time() - began < 32.0
            await stage.settle()
            await stage.node.publish(stage.message(b"unheard-"))
            await stage.settle()
            assert stage.worker.counters()["frames"] == 1
            stage.tail.gate.set()
            await stage.until(lambda: stage.states[-1] is ONLINE)
            assert stage.answered()[b"00000000"].status is Status.OK
            assert (await stage.ask(stage.message(b"00000001"))).status is Status.OK
            assert stage.worker.counters()["stuck"] == 1

    run_virtually(main())


def test_a_stuck_worker_can_be_told_to_stop() -> None:
    async def main() -> None:
        async with staged(WorkerSettings(stuck_after_s=5.0)) as stage:
            stage.tail.gate.clear()
            await stage.node.publish(stage.message(deadline_ms=600_000))
            await stage.until(lambda: stage.states[-1] is STUCK)
            stage.stop.set()
            await stage.settle()
            stage.tail.gate.set()
            await stage.until(lambda: stage.states[-1] is STOPPED)
            assert len(stage.replies) == 1

    run_virtually(main())


def test_the_birth_after_a_reconnect_tells_the_state_of_that_moment() -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.tail.gate.clear()
            await stage.node.publish(stage.message())
            await stage.tail.started.wait()
            stage.stop.set()
            await stage.until(lambda: stage.states[-1] is DRAINING)
            stage.bus.drop()
            stage.bus.connect()
            await stage.settle()
            assert stage.states[-2:] == [PresenceState.OFFLINE, DRAINING]
            stage.tail.gate.set()

    run_virtually(main())


def test_two_workers_share_a_line() -> None:
    async def main() -> None:
        async with staged() as stage:
            other, ready, stop = GateTail(), asyncio.Event(), asyncio.Event()
            announcer = Announcer("worker", "w2", served([other]), TOPICS)
            async with asyncio.TaskGroup() as tasks, MemoryBus(stage.broker, announcer) as bus:
                second = Worker(bus, [other], announcer, on_ready=ready.set)
                running = tasks.create_task(second.run(stop))
                await ready.wait()
                for index in range(10):
                    await stage.ask(stage.message(b"%08d" % index))
                stop.set()
                await running
            assert (len(stage.tail.batches), len(other.batches)) == (5, 5)

    run_virtually(main())


def test_two_bundles_of_one_line_are_refused() -> None:
    tails = [GateTail(tiny_manifest(version="1.0.0")), GateTail(tiny_manifest(version="1.0.1"))]
    with pytest.raises(ConfigError, match=r"two bundles are of tiny 1\.0"):
        served(tails)


class _ClosedBus(MemoryBus):
    """A bus whose broker grants no subscription."""

    @asynccontextmanager
    async def subscribe(self, topic_filter: str, *, qos: QoS = 0, limit: int = 1024) -> AsyncIterator[Subscription]:
        del qos, limit
        raise BrokerRefusedError(f"subscribe {topic_filter}", "not authorized", 0x87)
        yield


async def test_a_subscription_that_is_not_granted_ends_the_worker() -> None:
    tail = GateTail()
    announcer = Announcer("worker", "w1", served([tail]), TOPICS)
    async with _ClosedBus(MemoryBroker(), announcer) as bus:
        with pytest.raises(BaseExceptionGroup) as caught:
            await Worker(bus, [tail], announcer).run(asyncio.Event())
    assert caught.group_contains(BrokerRefusedError)
    assert announcer.state is STOPPED
