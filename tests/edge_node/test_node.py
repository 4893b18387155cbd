"""A node from birth to goodbye, with real torch behind it and its real head thread; and without any bus."""

from __future__ import annotations

import ast
import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import edge_node
import edge_node.node
from broker.bus import Message
from broker.engines.ports import hold_port
from broker.memory import MemoryBroker, MemoryBus
from cloud_worker.compute import ComputeThread
from cloud_worker.settings import WorkerSettings
from cloud_worker.tails import NoOpTail, load_tail
from edge_node.bar import Bar
from edge_node.node import EdgeNode, NodeConfig, _cancelled, announcer_of, open_node
from edge_node.orchestrator import exit_answer
from schemas.bundle_files import Bundle
from schemas.errors import BrokerRefusedError, BundleError, ConfigError
from schemas.messages import Outcome, Presence, PresenceState, Stats
from schemas.policy import PrivacyLevel, Route, TaskRoutingPolicy
from schemas.wire import decode_map, decode_outcome
from tests.bundles import make_bundle, samples, tiny_pair
from tests.edge_node.node_stage import (
    CLOUD,
    EDGE,
    HYBRID,
    TOPICS,
    SteadyTail,
    listening,
    staged,
    states,
    until,
    working,
)
from tests.virtual_time import run_virtually

SAMPLES = samples(8)
AMPLE_MS = 20_000.0
NODE = NodeConfig("cam-1", policy=HYBRID)


async def test_the_example_in_the_docstring_runs(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle").symlink_to(tiny.path)
    monkeypatch.chdir(tmp_path)
    _, _, example = (edge_node.node.__doc__ or "").partition("\n\n")
    with hold_port("127.0.0.1", 0) as port:
        source = example.replace("mqtt://broker.local", f"mqtt://127.0.0.1:{port}")
        names: dict[str, Any] = {**vars(edge_node), "image": SAMPLES[0]}
        await eval(compile(source, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307
    outcome: Outcome = names["outcome"]
    assert (outcome.node, outcome.source, outcome.privacy) == ("pi-7", "edge", PrivacyLevel.INTERNAL)


@asynccontextmanager
async def attached(bundle: Bundle, config: NodeConfig) -> AsyncIterator[tuple[MemoryBroker, MemoryBus, EdgeNode]]:
    """A node with its real head thread."""
    broker, announcer = MemoryBroker(), announcer_of(bundle, config)
    async with MemoryBus(broker, announcer) as bus, EdgeNode(bundle, config, bus, announcer) as node:
        yield broker, bus, node


async def until_heard(heard: list[Message], topic: str, count: int = 1) -> list[Message]:
    await until(lambda: sum(message.topic == topic for message in heard) >= count)
    return [message for message in heard if message.topic == topic]


@pytest.mark.parametrize("policy", [HYBRID, CLOUD], ids=["tail", "full"])
async def test_the_real_tail_answers_as_the_unsplit_model(policy: TaskRoutingPolicy, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, fields={"exit": None})  # so that no answer of the edge wins
    pair = tiny_pair()
    with ComputeThread() as thread:
        tail = await load_tail(bundle, thread, max_batch=8, trusted=True)
        async with (
            attached(bundle, NodeConfig("cam-1", policy=policy)) as (broker, _, node),
            working(broker, "w1", tail, WorkerSettings(max_delay_s=0.5)),
        ):
            assert await node.wait_for_cloud(30)
            asked = [node.infer(each, deadline_ms=AMPLE_MS) for each in SAMPLES]
            outcomes: list[Outcome] = await asyncio.gather(*asked)
    temperature = 1.5 if policy is HYBRID else 1.0
    for sample, outcome in zip(SAMPLES, outcomes, strict=True):
        wanted = exit_answer(pair.logits(pair.cut(sample)), temperature, Bar(0.0, "calibration"))
        assert wanted is not None
        assert (outcome.cloud_status, outcome.source) == ("ok", "cloud")
        assert outcome.label == wanted.label
        assert outcome.confidence == pytest.approx(wanted.confidence, abs=0.02)
    assert any(outcome.batch > 1 for outcome in outcomes)
    assert all(outcome.times_ms.total >= outcome.times_ms.cloud_wait > 0 for outcome in outcomes)


async def test_the_edge_answers_as_the_exit(tiny: Bundle) -> None:
    pair = tiny_pair()
    async with EdgeNode(tiny, NODE) as node:
        for sample in SAMPLES:
            outcome = await node.infer(sample)
            with torch.inference_mode():
                chances = torch.softmax(pair.exit(torch.from_numpy(pair.cut(sample)).flatten()), 0)
            assert outcome.label == int(chances.argmax())
            assert outcome.confidence == pytest.approx(float(chances.max()), abs=1e-4)


async def test_without_a_bus_every_answer_comes_from_the_edge(tiny: Bundle) -> None:
    async with open_node(tiny.path, config=NODE) as node:
        assert not await node.wait_for_cloud()
        outcome = await node.infer(SAMPLES[0])
        assert (outcome.route, outcome.source, outcome.cloud_status) == (Route.FALLBACK_EDGE, "edge", "none")
        assert outcome.reason.startswith("this node has no broker; exit unsure at 0.")
        restricted = await node.infer(SAMPLES[0], privacy=PrivacyLevel.RESTRICTED)
        assert (restricted.route, restricted.label) == (Route.EDGE_ONLY, outcome.label)
        assert node.uplink is None
        assert node.obstacle() == "this node has no broker"
        assert node.statistics().counters["requests"] == 1  # nothing is said of the restricted one


async def test_leaving_leaves_no_task_and_no_thread(tiny: Bundle) -> None:
    async with attached(tiny, NODE) as (broker, _, node), working(broker, "w1", NoOpTail(tiny.manifest)):
        assert await node.wait_for_cloud(30)
        await node.infer(SAMPLES[0], deadline_ms=AMPLE_MS)
        assert len(asyncio.all_tasks()) > 1
        assert any(thread.name.startswith("head") for thread in threading.enumerate())
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not any(thread.name.startswith("head") for thread in threading.enumerate())


async def test_a_node_that_cannot_be_entered_leaves_nothing_either(tiny: Bundle) -> None:
    class NoReplies(MemoryBus):
        def subscribe(self, topic_filter: str, **options: Any) -> Any:
            if topic_filter == TOPICS.reply("cam-1"):
                raise BrokerRefusedError("subscribe", "not authorized", 0x87)
            return super().subscribe(topic_filter, **options)

    async with NoReplies(MemoryBroker()) as bus:
        with pytest.raises(BrokerRefusedError, match="not authorized"):
            async with EdgeNode(tiny, NODE, bus):
                pytest.fail("it must not be entered")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_leaving_a_task_takes_no_cancellation_away_from_the_caller() -> None:
    begun = asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            begun.set()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(slow_to_end())
    await asyncio.sleep(0)
    caller = asyncio.create_task(_cancelled(task))
    await begun.wait()
    caller.cancel()
    await asyncio.wait({caller, task})
    assert caller.cancelled()
    assert task.cancelled()


async def test_what_a_task_failed_with_comes_out_when_it_is_left() -> None:
    async def fail() -> None:
        raise BrokerRefusedError("subscribe", "not authorized", 0x87)

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    with pytest.raises(BrokerRefusedError, match="not authorized"):
        await _cancelled(task)


def test_what_goes_wrong_on_the_way_is_in_the_stats(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, fields={"exit": None})

    async def main() -> None:
        tail = SteadyTail(bundle.manifest)
        async with staged(bundle, tail) as scene:
            faults, counters = scene.broker.faults, lambda: scene.node.statistics().counters
            assert not any(counters().values())
            faults.drop_next = 1
            await scene.node.infer(SAMPLES[0])
            assert counters()["retried"] == 1
            faults.duplicate_next = 2
            await scene.node.infer(SAMPLES[0])
            await asyncio.sleep(1)
            assert counters()["duplicate_replies"] >= 1
            tail.takes_s = 1.0
            await scene.node.infer(SAMPLES[0], deadline_ms=800)
            await asyncio.sleep(2)
            assert (counters()["unanswered"], counters()["cloud_timeout"]) == (1, 1)
            assert counters()["late_replies"] >= 1
            await asyncio.gather(*(scene.node.infer(SAMPLES[0], deadline_ms=200) for _ in range(20)))
            assert counters()["window_refused"] == scene.uplink.window.refused > 0
            assert counters()["breaker_opened"] == 1
            scene.bus.drop()
            scene.bus.connect()
            assert counters()["link_reconnects"] == 1
            assert counters()["presences_dropped"] == 0
            assert list(counters())[:2] == ["requests", "retried"]

    run_virtually(main())


def test_birth_then_stats_then_goodbye(tiny: Bundle) -> None:
    async def main() -> None:
        broker = MemoryBroker()
        config = NodeConfig("cam-1", policy=HYBRID, stats_every_s=2.0)
        announcer = announcer_of(tiny, config)
        async with listening(broker) as heard:
            async with MemoryBus(broker, announcer) as bus, EdgeNode(tiny, config, bus, announcer) as node:
                (birth,) = await until_heard(heard, TOPICS.presence("edge", "cam-1"))
                presence = decode_map(Presence, birth.payload)
                assert (presence.state, presence.session) == (PresenceState.ONLINE, bus.session)
                assert [(served.model, served.line) for served in presence.serves] == [("tiny", "1.0")]
                assert presence.serves[0].interface == tiny.manifest.interface
                await asyncio.sleep(4.5)
                stats = [decode_map(Stats, each.payload) for each in heard if each.topic == "sb/s/edge/cam-1"]
                assert len(stats) == 2
                assert stats[-1].gauges["window"] == 16
                assert set(node.statistics().counters.values()) == {0}
            await asyncio.sleep(10)
            assert states(heard, "edge") == [PresenceState.ONLINE, PresenceState.STOPPED]
            assert sum(each.topic == "sb/s/edge/cam-1" for each in heard) == 2

    run_virtually(main())


def test_a_link_that_comes_back_after_the_goodbye_does_not_take_it_back(tiny: Bundle) -> None:
    async def main() -> None:
        broker, announcer = MemoryBroker(), announcer_of(tiny, NODE)
        async with listening(broker) as heard, MemoryBus(broker, announcer) as bus:
            async with EdgeNode(tiny, NODE, bus, announcer):
                pass
            bus.drop()
            bus.connect()
            await until_heard(heard, TOPICS.presence("edge", "cam-1"), count=4)
            assert states(heard, "edge")[-1] is PresenceState.STOPPED

    run_virtually(main())


def test_the_goodbye_is_said_before_the_replies_are_left(tiny: Bundle) -> None:
    async def main() -> None:
        broker, announcer = MemoryBroker(), announcer_of(tiny, NODE)
        subscribed: list[bool] = []

        class Watching(MemoryBus):
            async def publish(self, message: Message) -> None:
                if message.topic == TOPICS.presence("edge", "cam-1"):
                    subscribed.append(
                        {member.inbox.filter for member in self._members} == {"sb/r/cam-1", "sb/p/worker/+"}
                    )
                await super().publish(message)

        async with Watching(broker, announcer) as bus:
            async with EdgeNode(tiny, NODE, bus, announcer):
                await asyncio.sleep(0)
            assert subscribed == [True]
            assert bus._members == []

    run_virtually(main())


def test_an_outcome_is_published_as_json_where_asked(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest), publish_outcomes=True) as scene:
            outcome = await scene.node.infer(SAMPLES[0])
            (said,) = await until_heard(scene.heard, TOPICS.outcome("cam-1", "tiny"))
            assert decode_outcome(said.payload) == outcome
            scene.bus.drop()
            assert (await scene.node.infer(SAMPLES[0])).source == "edge"

    run_virtually(main())


def test_waiting_for_the_cloud_ends_when_link_and_worker_are_there(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, policy=EDGE) as scene:
            assert not await scene.node.wait_for_cloud(5)
            scene.bus.drop()
            async with asyncio.TaskGroup() as tasks, working(scene.broker, "w1", NoOpTail(tiny.manifest)):
                waiting = tasks.create_task(scene.node.wait_for_cloud(60))
                await asyncio.sleep(5)
                assert not waiting.done()
                scene.bus.connect()
                assert await waiting

    run_virtually(main())


def test_a_worker_heard_of_before_the_link_counts_as_up_is_not_missed(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny) as scene, asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(scene.node.wait_for_cloud(60))
            await asyncio.sleep(1)
            scene.bus.drop()
            async with working(scene.broker, "w1", NoOpTail(tiny.manifest)):
                for member in scene.bus._members:
                    scene.broker.join(member)
                await asyncio.sleep(1)
                scene.bus._up.set()
                assert await waiting
                assert asyncio.get_running_loop().time() < 10

    run_virtually(main())


def test_an_id_that_is_no_topic_level_is_refused() -> None:
    with pytest.raises(ConfigError, match="node id 'a/b'"):
        NodeConfig("a/b")


def test_a_bundle_whose_head_is_of_another_cut_is_refused(tmp_path: Path) -> None:
    cut = {"dtype": "float32", "shape": (4, 4, 5)}
    points = [{"id": 1, "part": "tail", "codec": "minmax_u8"}]
    bundle = make_bundle(tmp_path, fields={"cut": cut, "points": points})
    with pytest.raises(BundleError, match=r"head gives float32 \[4, 4, 4\].*manifest names float32 \[4, 4, 5\]"):
        EdgeNode(bundle, NODE)
