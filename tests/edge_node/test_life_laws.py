"""Laws of a request's life, over policies, privacies, confidences and faults drawn at random, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from broker.bus import Message
from cloud_worker.settings import WorkerSettings
from schemas.bundle_files import Bundle
from schemas.messages import Outcome
from schemas.policy import Priority, PrivacyLevel, TaskRoutingPolicy
from tests.bundles import make_bundle, samples
from tests.edge_node.node_stage import Stage, SteadyTail, staged
from tests.edge_node.test_router import policies
from tests.virtual_time import run_virtually

SAMPLES = samples(6)
SLACK_S = 0.020
OPEN = [level for level in PrivacyLevel if level is not PrivacyLevel.RESTRICTED]
FAULTS = ("drop", "duplicate", "link down", "link up", "worker dies", "worker back", "slow", "quick", "broken", "whole")


@dataclass(frozen=True)
class Ask:
    """One request, some time after the one before, and what goes wrong just before it."""

    privacy: PrivacyLevel
    deadline_ms: float
    max_cost: float | None
    priority: Priority
    after_s: float
    fault: str | None


@dataclass(frozen=True)
class Scene:
    """What is drawn of one world."""

    policy: TaskRoutingPolicy
    threshold: float
    exit_: bool
    confidence: float
    queue: int
    asks: tuple[Ask, ...]


@dataclass
class Played:
    """What came of it."""

    outcomes: list[tuple[Ask, Outcome, float]] = field(default_factory=list)
    published: list[Message] = field(default_factory=list)
    probes: int = 0


def asks(privacies: Sequence[PrivacyLevel]) -> st.SearchStrategy[Ask]:
    return st.builds(
        Ask,
        privacy=st.sampled_from(privacies),
        deadline_ms=st.floats(5, 2000),
        max_cost=st.none() | st.floats(0, 1e-4),
        priority=st.sampled_from(Priority),
        after_s=st.sampled_from([0.0, 0.0, 0.01, 0.3, 3.0]),
        fault=st.none() | st.sampled_from(FAULTS),
    )


def scenes(privacies: Sequence[PrivacyLevel]) -> st.SearchStrategy[Scene]:
    return st.builds(
        Scene,
        policy=policies(),
        threshold=st.floats(0, 1),
        exit_=st.booleans(),
        confidence=st.floats(0, 1),
        queue=st.integers(1, 8),
        asks=st.lists(asks(privacies), min_size=1, max_size=12).map(tuple),
    )


def strike(stage: Stage, tail: SteadyTail, fault: str | None) -> None:
    worker, faults = stage.workers[0], stage.broker.faults
    match fault:
        case "drop":
            faults.drop_next = 3
        case "duplicate":
            faults.duplicate_next = 3
        case "link down" if stage.bus.connected:
            stage.bus.drop()
        case "link up" if not stage.bus.connected:
            stage.bus.connect()
        case "worker dies" if worker.connected:
            worker.drop()
        case "worker back" if not worker.connected:
            worker.connect()
        case "slow" | "quick":
            tail.takes_s = 1.0 if fault == "slow" else 0.0
        case "broken" | "whole":
            tail.failure = RuntimeError("broken") if fault == "broken" else None


async def play(scene: Scene, bundle: Bundle) -> Played:
    tail, played = SteadyTail(bundle.manifest, scene.confidence), Played()
    settings = WorkerSettings(max_queue=scene.queue, max_batch=1)
    clock = asyncio.get_running_loop().time

    async with staged(bundle, tail, policy=scene.policy, settings=settings, publish_outcomes=True) as stage:

        async def one(number: int, ask: Ask) -> None:
            begun = clock()
            outcome = await stage.node.infer(
                SAMPLES[number % len(SAMPLES)],
                privacy=ask.privacy,
                deadline_ms=ask.deadline_ms,
                max_cost=ask.max_cost,
                priority=ask.priority,
            )
            played.outcomes.append((ask, outcome, clock() - begun))

        async with asyncio.TaskGroup() as group:
            for number, ask in enumerate(scene.asks):
                await asyncio.sleep(ask.after_s)
                strike(stage, tail, ask.fault)
                group.create_task(one(number, ask))
        await asyncio.sleep(10)
        played.published = [*stage.heard, *stage.broker.faults.lost]
        played.probes = stage.node.statistics().counters["probes"]
    return played


def outcome(scene: Scene) -> Played:
    fields = {"exit": {"temperature": 1.0, "threshold": scene.threshold, "coverage": 0.5} if scene.exit_ else None}
    with TemporaryDirectory() as place:
        return run_virtually(play(scene, make_bundle(Path(place), fields=fields)))


@given(scenes([PrivacyLevel.RESTRICTED]))
def test_restricted_requests_put_nothing_on_any_topic(scene: Scene) -> None:
    played = outcome(scene)
    assert {message.topic.split("/")[1] for message in played.published} <= {"p"}
    assert all(each.attempts == 0 and each.source in {"edge", "none"} for _, each, _ in played.outcomes)
    assert played.probes == 0


@given(scenes([*OPEN, PrivacyLevel.RESTRICTED]))
def test_among_others_no_frame_and_no_outcome_is_of_a_restricted_request(scene: Scene) -> None:
    played = outcome(scene)
    frames = {message.correlation for message in played.published if message.topic.startswith("sb/w/")}
    shipped = sum(each.attempts > 0 for _, each, _ in played.outcomes)
    assert len(frames) <= shipped + played.probes
    told = [json.loads(message.payload) for message in played.published if message.topic.startswith("sb/o/")]
    assert all(each["privacy"] != "restricted" for each in told)
    for ask, each, _ in played.outcomes:
        assert ask.privacy is not PrivacyLevel.RESTRICTED or (each.attempts, each.bytes_up) == (0, 0)


@given(scenes(list(PrivacyLevel)))
def test_every_request_ends_in_one_outcome_by_its_deadline(scene: Scene) -> None:
    played = outcome(scene)
    assert len(played.outcomes) == len(scene.asks)
    assert len({each.request for _, each, _ in played.outcomes}) == len(scene.asks)
    for ask, each, took_s in played.outcomes:
        assert took_s <= ask.deadline_ms / 1e3 + SLACK_S
        assert (each.source == "none") <= (not scene.exit_)
        assert (each.label is None) is (each.source == "none")


@given(scenes(list(PrivacyLevel)))
def test_every_outcome_says_why_and_adds_up(scene: Scene) -> None:
    for ask, each, _ in outcome(scene).outcomes:
        assert each.reason
        scores = each.scores
        assert scores is None or all(0 <= value <= 1 for value in scores.model_dump().values())
        assert (each.bytes_up > 0) is (each.attempts > 0) is (each.point is not None)
        assert (each.cost > 0) is (each.attempts > 0) or scene.policy.prices.per_message == 0
        assert each.privacy is ask.privacy
        assert each.cloud_status == "ok" if each.source == "cloud" else True
