"""A sample's life over a bus in memory with real workers, in virtual time: every request ends in one outcome."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.bus import Message
from cloud_worker.settings import WorkerSettings
from cloud_worker.tails import NoOpTail
from edge_node.bar import Bar
from edge_node.orchestrator import exit_answer
from edge_node.router import Request
from schemas.bundle_files import Bundle
from schemas.messages import Answer, Outcome, Reply, Status
from schemas.policy import PrivacyLevel, Route, TaskRoutingPolicy
from schemas.wire import decode_work, encode_reply
from tests.bundles import make_bundle, samples, tiny_manifest
from tests.edge_node.node_stage import CLOUD, EDGE, HYBRID, PRIVATE, TOPICS, Stage, SteadyTail, staged, until, working
from tests.virtual_time import run_virtually

SAMPLE = samples(1)[0]
SURE = {"exit": {"temperature": 1.0, "threshold": 0.0, "coverage": 1.0}}
SLACK_S = 0.020


async def timed(stage: Stage, **request: Any) -> tuple[Outcome, float]:
    """One outcome, and how long it took on the loop's clock."""
    clock = asyncio.get_running_loop().time
    started = clock()
    outcome = await stage.node.infer(SAMPLE, **request)
    return outcome, clock() - started


def ask(bundle: Bundle, *tails: Any, before: Callable[[Stage], None] = lambda _: None, **stage: Any) -> Outcome:
    """The one outcome of a request with a deadline of 300 ms, in time, and nothing left behind."""

    async def main() -> Outcome:
        async with staged(bundle, *tails, **stage) as scene:
            before(scene)
            outcome, took = await timed(scene, deadline_ms=300)
            assert took <= 0.3 + SLACK_S
            assert scene.pending() == 0
            return outcome

    return run_virtually(main())


def test_an_unsure_exit_ships_the_cut_and_the_cloud_answers(tiny: Bundle) -> None:
    outcome = ask(tiny, NoOpTail(tiny.manifest))
    assert (outcome.source, outcome.label, outcome.label_name, outcome.confidence) == ("cloud", 0, "ring", 1.0)
    assert (outcome.route, outcome.cloud_status, outcome.attempts) == (Route.HYBRID_SPLIT, "ok", 1)
    assert outcome.escalated
    assert 0 < outcome.payload_bytes < outcome.bytes_up
    assert outcome.bytes_down > 0
    assert outcome.cost > 0
    assert re.search(r"; exit unsure at 0\.\d{3} \(threshold 0\.9, not certified\)$", outcome.reason)


def test_a_sure_exit_ships_nothing(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, fields=SURE)

    async def main() -> None:
        async with staged(bundle, NoOpTail(bundle.manifest)) as scene:
            outcome, _ = await timed(scene)
            await asyncio.sleep(1)
            assert scene.heard == []
            assert (outcome.source, outcome.cloud_status, outcome.escalated) == ("edge", "none", False)
            assert (outcome.bytes_up, outcome.cost) == (0, 0)

    run_virtually(main())


@pytest.mark.parametrize("confidence", [0.999, 0.001])
def test_the_cloud_supersedes_an_exit_that_is_unsure(tiny: Bundle, confidence: float) -> None:
    outcome = ask(tiny, SteadyTail(tiny.manifest, confidence))
    assert (outcome.source, outcome.cloud_status) == ("cloud", "ok")
    assert outcome.confidence == pytest.approx(confidence)


@pytest.mark.parametrize(("confidence", "source"), [(0.999, "cloud"), (0.001, "edge")])
def test_against_an_exit_that_is_sure_the_more_confident_answer_wins(
    tmp_path: Path, confidence: float, source: str
) -> None:
    bundle = make_bundle(tmp_path, fields=SURE)

    async def main() -> None:
        async with staged(bundle, SteadyTail(bundle.manifest, confidence), policy=PRIVATE) as scene:
            outcome, _ = await timed(scene, privacy=PrivacyLevel.CONFIDENTIAL)
            assert (outcome.source, outcome.cloud_status, outcome.escalated) == (source, "ok", True)
            assert outcome.reason.endswith("(threshold 0, not certified); checked below 0.85 by the policy")

    run_virtually(main())


def test_cloud_only_ships_the_input_and_runs_no_head(tiny: Bundle) -> None:
    outcome = ask(tiny, NoOpTail(tiny.manifest), policy=CLOUD)
    assert (outcome.source, outcome.route, outcome.times_ms.head, outcome.escalated) == (
        "cloud",
        Route.CLOUD_ONLY,
        0,
        False,
    )


def test_lost_frames_are_sent_again(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest)) as scene:
            scene.broker.faults.drop_next = 2
            outcome, _ = await timed(scene, deadline_ms=2000)
            assert (outcome.source, outcome.attempts) == ("cloud", 3)
            assert {message.topic.split("/")[1] for message in scene.broker.faults.lost} == {"w"}

    run_virtually(main())


def lose_everything(scene: Stage) -> None:
    scene.broker.faults.drop_next = 1 << 30


@pytest.mark.parametrize("policy", [HYBRID, CLOUD], ids=["hybrid", "cloud"])
def test_when_nothing_comes_back_the_edge_answers_by_the_deadline(tiny: Bundle, policy: TaskRoutingPolicy) -> None:
    outcome = ask(tiny, NoOpTail(tiny.manifest), policy=policy, before=lose_everything)
    assert (outcome.source, outcome.cloud_status) == ("edge", "timeout")
    assert "cloud: timeout (no reply to sb/w/" in outcome.reason
    assert outcome.attempts > 0


@pytest.mark.parametrize("policy", [HYBRID, CLOUD], ids=["hybrid", "cloud"])
def test_a_tail_that_fails_leaves_the_edge_answer(tiny: Bundle, policy: TaskRoutingPolicy) -> None:
    outcome = ask(tiny, SteadyTail(tiny.manifest, failure=RuntimeError("out of memory")), policy=policy)
    assert (outcome.source, outcome.cloud_status) == ("edge", "failed")
    assert "cloud: failed (the tail of tiny 1.0.0 raised RuntimeError" in outcome.reason


def test_a_worker_of_another_pair_that_claims_ours_is_a_mismatch(tiny: Bundle) -> None:
    other = tiny_manifest(seed=1)
    outcome = ask(tiny, NoOpTail(other), claims=tiny.manifest)
    assert (outcome.source, outcome.cloud_status) == ("edge", "interface_mismatch")
    assert outcome.reason.endswith(")")


def test_an_overloaded_worker_leaves_the_edge_answer_and_halves_the_window(tiny: Bundle) -> None:
    async def main() -> None:
        slow = SteadyTail(tiny.manifest, takes_s=0.2)
        async with staged(tiny, slow, settings=WorkerSettings(max_queue=1, max_batch=1)) as scene:
            size = scene.uplink.window.size
            outcomes = await asyncio.gather(*(scene.node.infer(SAMPLE, deadline_ms=900) for _ in range(8)))
            refused = [outcome for outcome in outcomes if outcome.cloud_status == "overloaded"]
            assert len(refused) >= 5
            assert {outcome.source for outcome in refused} == {"edge"}
            assert "cloud: overloaded" in refused[0].reason
            assert scene.uplink.window.size < size
            assert scene.uplink.breaker.failures == 0
            assert scene.pending() == 0

    run_virtually(main())


def ok(*labels: int) -> bytes:
    return encode_reply(Reply(status=Status.OK, answers=tuple(Answer(label=each, confidence=1.0) for each in labels)))


def failed_with_answer() -> bytes:
    return ok(1).replace(b"\x96\x01\x00", b"\x96\x01\x06")


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (b"", "bad_reply"),
        (b"\xc1" * 40, "bad_reply"),
        (bytes(70_000), "bad_reply"),
        (ok(), "bad_reply"),
        (ok(1, 2), "bad_reply"),
        (ok(4), "bad_reply"),
        (failed_with_answer(), "failed"),
    ],
    ids=["empty", "garbage", "huge", "no answer", "two answers", "no such label", "an answer that failed"],
)
def test_a_reply_of_no_use_leaves_the_edge_answer(tiny: Bundle, payload: bytes, status: str) -> None:
    async def main() -> None:
        mute = SteadyTail(tiny.manifest, takes_s=10)
        async with staged(tiny, mute) as scene, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(timed(scene, deadline_ms=300))
            await until(lambda: "w" in scene.topics())
            work = next(message for message in scene.heard if message.topic.startswith("sb/w"))
            await scene.workers[0].publish(Message(TOPICS.reply("cam-1"), payload, correlation=work.correlation))
            outcome, took = await asking
            assert (outcome.source, outcome.cloud_status) == ("edge", status)
            assert f"cloud: {status}" in outcome.reason
            assert took <= 0.3 + SLACK_S

    run_virtually(main())


def test_after_the_death_of_the_worker_the_edge_goes_on_alone(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest)) as scene:
            scene.workers[0].drop()
            await asyncio.sleep(0.001)
            outcome, _ = await timed(scene)
            assert (outcome.route, outcome.source, outcome.cloud_status) == (Route.FALLBACK_EDGE, "edge", "none")
            assert outcome.reason.startswith("no live worker serves tiny 1.0 with this interface; exit unsure at 0.")
            scene.workers[0].connect()
            await asyncio.sleep(0.001)
            assert (await timed(scene))[0].source == "cloud"

    run_virtually(main())


def test_a_worker_of_another_interface_on_the_same_line_is_no_worker(tiny: Bundle) -> None:
    outcome = ask(tiny, NoOpTail(tiny_manifest(seed=1)))
    assert (outcome.route, outcome.attempts) == (Route.FALLBACK_EDGE, 0)


def test_one_of_two_workers_dies_with_the_frame_and_the_other_answers(tiny: Bundle) -> None:
    async def main() -> None:
        mute = SteadyTail(tiny.manifest, takes_s=100)
        async with staged(tiny, mute) as scene, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(timed(scene, deadline_ms=2000))
            await until(lambda: mute.frames > 0)
            async with working(scene.broker, "spare", NoOpTail(tiny.manifest)):
                scene.workers[0].drop()
                outcome, _ = await asking
                assert (outcome.source, outcome.cloud_status) == ("cloud", "ok")
                assert outcome.attempts == 2

    run_virtually(main())


@pytest.mark.parametrize(
    ("policy", "privacy", "route", "shipped"),
    [
        (PRIVATE, PrivacyLevel.CONFIDENTIAL, Route.EDGE_ONLY, True),
        (EDGE, PrivacyLevel.PUBLIC, Route.EDGE_ONLY, False),
        (PRIVATE.model_copy(update={"confidence_threshold": 0.0}), PrivacyLevel.CONFIDENTIAL, Route.EDGE_ONLY, False),
        (PRIVATE, PrivacyLevel.INTERNAL, Route.HYBRID_SPLIT, True),
        (PRIVATE, PrivacyLevel.PUBLIC, Route.CLOUD_ONLY, True),
    ],
    ids=["doubted", "pinned", "confident enough", "split", "cloud"],
)
def test_edge_only_escalates_below_the_threshold_unless_pinned(
    tiny: Bundle, policy: TaskRoutingPolicy, privacy: PrivacyLevel, route: Route, *, shipped: bool
) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest), policy=policy) as scene:
            outcome, _ = await timed(scene, privacy=privacy)
            assert (outcome.route, outcome.attempts) == (route, int(shipped))
            assert outcome.escalated is (shipped and route is not Route.CLOUD_ONLY)
            assert outcome.source == ("cloud" if shipped else "edge")

    run_virtually(main())


async def a_while(scene: Stage, seconds: float) -> list[Outcome]:
    """A request with a short deadline every half second."""
    clock, outcomes = asyncio.get_running_loop().time, []
    until_s = clock() + seconds
    while clock() < until_s:
        outcomes.append((await timed(scene, deadline_ms=200))[0])
        await asyncio.sleep(0.5)
    return outcomes


def switches(outcomes: list[Outcome]) -> int:
    routes = [outcome.route for outcome in outcomes]
    return sum(one != two for one, two in itertools.pairwise(routes))


def test_a_cloud_that_gets_slow_is_left_once_and_taken_again_once_when_it_is_quick(tiny: Bundle) -> None:
    async def main() -> None:
        tail = SteadyTail(tiny.manifest, takes_s=0.02)
        async with staged(tiny, tail) as scene:
            assert {outcome.source for outcome in await a_while(scene, 10)} == {"cloud"}
            tail.takes_s = 0.4
            slow = await a_while(scene, 60)
            assert switches(slow) == 1
            assert sum(outcome.attempts > 0 for outcome in slow) <= 3
            assert (slow[-1].route, slow[-1].source, slow[-1].attempts) == (Route.EDGE_ONLY, "edge", 0)
            assert "would take" in slow[-1].reason
            tail.takes_s = 0.02
            quick = await a_while(scene, 60)
            assert switches(quick) == 1
            assert quick[-1].source == "cloud"

    run_virtually(main())


def test_while_the_cloud_stays_slow_probes_are_few_and_no_answer_waits_for_them(tiny: Bundle) -> None:
    async def main() -> None:
        tail = SteadyTail(tiny.manifest, takes_s=0.9)
        async with staged(tiny, tail) as scene:
            await a_while(scene, 10)
            frames = tail.frames
            for _ in range(100):
                outcome, took = await timed(scene, deadline_ms=200)
                assert (outcome.attempts, took) == (0, 0)
                await asyncio.sleep(0.5)
            assert 10 <= tail.frames - frames <= 50 / 2 + 1

    run_virtually(main())


def test_what_would_stay_for_its_privacy_or_is_pinned_to_the_edge_is_no_probe(tiny: Bundle) -> None:
    async def main() -> None:
        for policy, privacy in ((PRIVATE, PrivacyLevel.CONFIDENTIAL), (EDGE, PrivacyLevel.PUBLIC)):
            async with staged(tiny, NoOpTail(tiny.manifest), policy=policy) as scene:
                scene.uplink.breaker.opened_at = -10.0
                for _ in range(3):
                    assert (await timed(scene, privacy=privacy))[0].route is Route.FALLBACK_EDGE
                    await asyncio.sleep(5)
                assert scene.heard == []

    run_virtually(main())


def test_a_budget_for_one_frame_is_not_spent_on_a_second(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest)) as scene:
            scene.broker.faults.drop_next = 1 << 30
            allowed = scene.node._orchestrator.state(Request()).hybrid
            assert allowed is not None
            outcome, _ = await timed(scene, deadline_ms=3000, max_cost=1.01 * allowed.cost)
            assert (outcome.cloud_status, outcome.attempts) == ("timeout", 1)
            assert outcome.cost <= 1.01 * allowed.cost

    run_virtually(main())


def test_an_exit_that_is_not_finite_says_nothing() -> None:
    bar = Bar(0.5, "calibration")
    assert exit_answer(np.array([0.0, np.nan], np.float32), 1.0, bar) is None
    answer = exit_answer(np.array([0.0, 100.0], np.float32), 1.0, bar)
    assert answer is not None
    assert (answer.label, answer.confidence, answer.sure) == (1, 1.0, True)


@pytest.mark.parametrize(("max_cost", "point"), [(None, 7), (1.0, 7), (3e-3, 8)])
def test_each_frame_travels_at_the_best_point_that_its_limits_allow(
    tmp_path: Path, max_cost: float | None, point: int
) -> None:
    small, large = (point.model_dump() for point in tiny_manifest().points[:2])
    points = [{**large, "id": 7, "mean_bytes": 60_000}, {**small, "id": 8, "mean_bytes": 64}]
    bundle = make_bundle(tmp_path, fields={"points": points})

    async def main() -> None:
        async with staged(bundle, NoOpTail(bundle.manifest)) as scene:
            outcome, _ = await timed(scene, max_cost=max_cost)
            assert outcome.source == "cloud"
            sent = [decode_work(m.payload).point for m in scene.heard if m.topic.startswith("sb/w/")]
            assert sent == [point]

    run_virtually(main())


def test_a_deadline_that_no_rate_meets_costs_no_accuracy(tmp_path: Path) -> None:
    """A smaller rate is worse and, as far as is known, no quicker."""
    small, large = (point.model_dump() for point in tiny_manifest().points[:2])
    points = [{**large, "id": 7, "mean_bytes": 600}, {**small, "id": 8, "mean_bytes": 64}]
    bundle = make_bundle(tmp_path, fields={"points": points, "exit": None})

    async def main() -> None:
        async with staged(bundle, NoOpTail(bundle.manifest)) as scene:
            await timed(scene, deadline_ms=40.0)
            sent = [decode_work(m.payload).point for m in scene.heard if m.topic.startswith("sb/w/")]
            assert sent == [7]

    run_virtually(main())
