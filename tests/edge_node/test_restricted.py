"""RESTRICTED: nothing about such a request is said on any topic, whatever policy, bundle and faults are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from broker.bus import Message
from cloud_worker.tails import NoOpTail
from edge_node.router import Decision, Request, RouterState, TaskRouter
from schemas.bundle_files import Bundle
from schemas.messages import Outcome
from schemas.policy import PrivacyLevel, Route, TaskRoutingPolicy
from tests.bundles import make_bundle, samples
from tests.edge_node.node_stage import CLOUD, EDGE, HYBRID, PRIVATE, SteadyTail, staged
from tests.virtual_time import run_virtually

POLICIES = {
    "scored": TaskRoutingPolicy(confidence_threshold=1.0),
    "private": PRIVATE,
    "edge": EDGE,
    "hybrid": HYBRID,
    "cloud": CLOUD,
}
SAMPLES = samples(6)


async def restricted(bundle: Bundle, policy: TaskRoutingPolicy, *, faults: bool) -> tuple[list[Outcome], list[Message]]:
    """Some restricted requests side by side, and everything that was said while they ran and 10 s later."""
    tail = SteadyTail(bundle.manifest, failure=RuntimeError("broken") if faults else None)
    async with staged(bundle, tail, policy=policy, publish_outcomes=True) as scene:
        if faults:
            scene.broker.faults.duplicate_next = 1 << 30
        asked = [scene.node.infer(each, privacy=PrivacyLevel.RESTRICTED, deadline_ms=50) for each in SAMPLES]
        outcomes = await asyncio.gather(*asked)
        if faults:
            scene.workers[0].drop()
            scene.workers[0].connect()
            outcomes += [await scene.node.infer(SAMPLES[0], privacy=PrivacyLevel.RESTRICTED)]
        await asyncio.sleep(10)
        return outcomes, [message for message in scene.heard if message.topic.split("/")[1] != "p"]


@pytest.mark.parametrize("faults", [False, True], ids=["well", "faults"])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
def test_nothing_is_said(tiny: Bundle, policy: TaskRoutingPolicy, *, faults: bool) -> None:
    outcomes, heard = run_virtually(restricted(tiny, policy, faults=faults))
    assert heard == []
    assert {(each.route, each.source, each.attempts) for each in outcomes} == {(Route.EDGE_ONLY, "edge", 0)}


def test_nothing_is_said_without_an_exit_either(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, fields={"exit": None})
    outcomes, heard = run_virtually(restricted(bundle, HYBRID, faults=False))
    assert heard == []
    assert {(each.source, each.label, each.confidence) for each in outcomes} == {("none", None, 0.0)}


def test_a_plain_word_holds_as_well(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest), policy=CLOUD, publish_outcomes=True) as scene:
            word: Any = "restricted"
            outcome = await scene.node.infer(SAMPLES[0], privacy=word)
            await asyncio.sleep(1)
            assert (outcome.privacy, scene.heard) == (PrivacyLevel.RESTRICTED, [])

    run_virtually(main())


def test_what_is_not_restricted_is_heard(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest), publish_outcomes=True) as scene:
            await scene.node.infer(SAMPLES[0], privacy=PrivacyLevel.CONFIDENTIAL)
            await asyncio.sleep(1)
            assert sorted(scene.topics()) == ["o", "r", "w"]

    run_virtually(main())


def test_the_stats_do_not_tell_of_them(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest)) as scene:
            before = scene.node.statistics()
            for each in SAMPLES:
                await scene.node.infer(each, privacy=PrivacyLevel.RESTRICTED)
            after = scene.node.statistics()
            assert (after.counters, after.gauges) == (before.counters, before.gauges)
            await scene.node.infer(SAMPLES[0])
            assert scene.node.statistics().counters["requests"] == 1

    run_virtually(main())


class CarelessRouter(TaskRouter):
    """Sends everything out."""

    def __init__(self, route: Route) -> None:
        super().__init__(TaskRoutingPolicy())
        self._route = route

    def route(self, _request: Request, _state: RouterState) -> Decision:
        return Decision(self._route, "whatever")


@pytest.mark.parametrize("exit_", [True, False], ids=["exit", "no exit"])
@pytest.mark.parametrize("route", [Route.CLOUD_ONLY, Route.HYBRID_SPLIT])
def test_a_router_that_is_wrong_about_it_ships_nothing(tmp_path: Path, route: Route, *, exit_: bool) -> None:
    bundle = make_bundle(tmp_path, fields={} if exit_ else {"exit": None})

    async def main() -> None:
        async with staged(bundle, NoOpTail(bundle.manifest), publish_outcomes=True) as scene:
            scene.node._orchestrator.router = CarelessRouter(route)
            public = await scene.node.infer(SAMPLES[0])
            assert (public.source, public.attempts) == ("cloud", 1)
            scene.heard.clear()
            outcome = await scene.node.infer(SAMPLES[0], privacy=PrivacyLevel.RESTRICTED)
            await asyncio.sleep(10)
            assert scene.heard == []
            assert (outcome.source, outcome.attempts) == ("edge" if exit_ else "none", 0)
            assert (outcome.bytes_up, outcome.cloud_status, outcome.escalated) == (0, "none", False)

    run_virtually(main())
