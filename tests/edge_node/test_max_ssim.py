"""`max_ssim`: nothing is published at an operating point that shows more, whatever policy, bundle and faults are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.bus import Message
from cloud_worker.tails import NoOpTail
from edge_node.outlook import Outlook
from edge_node.router import Decision, Request, RouterState, TaskRouter
from schemas.bundle import Manifest
from schemas.bundle_files import Bundle
from schemas.messages import Outcome
from schemas.policy import PrivacyLevel, Route, TaskRoutingPolicy
from schemas.wire import decode_work
from tests.bundles import AFFINE_POINT, INPUT_POINT, MINMAX_POINT, make_bundle, samples, tiny_manifest
from tests.edge_node.node_stage import CLOUD, EDGE, HYBRID, SteadyTail, staged
from tests.virtual_time import run_virtually

LOSSY_POINT = 3
POINTS = (AFFINE_POINT, MINMAX_POINT, INPUT_POINT, LOSSY_POINT)
SAMPLE = samples(1)[0]
POLICIES = (TaskRoutingPolicy(), TaskRoutingPolicy(confidence_threshold=1.0), EDGE, HYBRID, CLOUD)

Ssims = Mapping[int, float | None]
"""By operating point; one that is not there was not measured, None is measured and has none."""


def fields(ssims: Ssims, *, exit_: bool = True) -> dict[str, Any]:
    """Of the tiny bundle with a lossy input beside the lossless one, and leakage as it is given."""
    points = [point.model_dump() for point in tiny_manifest().points]
    points.append({**points[INPUT_POINT], "id": LOSSY_POINT, "config": {"format": "webp", "quality": 50}})
    for point in points:
        if point["id"] in ssims:
            point["leakage"] = {"ssim": ssims[point["id"]], "samples": 200}
    return {"points": points, **({} if exit_ else {"exit": None})}


def limited(policy: TaskRoutingPolicy, limit: float | None) -> TaskRoutingPolicy:
    return policy.model_copy(update={"max_ssim": limit})


def points_of(messages: Sequence[Message]) -> list[int]:
    """Of the frames among them, in order."""
    return [decode_work(each.payload).point for each in messages if each.topic.startswith("sb/w/")]


def check(manifest: Manifest, limit: float, messages: Sequence[Message]) -> None:
    for number in points_of(messages):
        point = manifest.point(number)
        assert point is not None
        assert point.ssim is not None
        assert point.ssim <= limit


@dataclass(frozen=True)
class Scene:
    """What is drawn; `tail` is how the worker answers, `router` a route that the node takes whatever the rules say."""

    policy: TaskRoutingPolicy
    limit: float
    ssims: Ssims
    exit_: bool
    faults: dict[str, int]
    broken: bool
    router: Route | None
    asked: tuple[tuple[PrivacyLevel, float, float | None], ...]


class Stubborn(TaskRouter):
    """Takes one route, whatever is open."""

    def __init__(self, policy: TaskRoutingPolicy, route: Route) -> None:
        super().__init__(policy)
        self._route = route

    def route(self, _request: Request, _state: RouterState) -> Decision:
        return Decision(self._route, "whatever")


scenes = st.builds(
    Scene,
    policy=st.sampled_from(POLICIES),
    limit=st.floats(0, 1),
    ssims=st.dictionaries(st.sampled_from(POINTS), st.none() | st.floats(-1, 1), max_size=4),
    exit_=st.booleans(),
    faults=st.fixed_dictionaries({"drop_next": st.integers(0, 4), "duplicate_next": st.integers(0, 4)}),
    broken=st.booleans(),
    router=st.none() | st.sampled_from(list(Route)),
    asked=st.lists(
        st.tuples(st.sampled_from(list(PrivacyLevel)), st.floats(5, 3000), st.none() | st.floats(0, 1e-3)),
        min_size=1,
        max_size=4,
    ).map(tuple),
)


async def played(scene: Scene, bundle: Bundle) -> tuple[list[Outcome], list[Message]]:
    """The outcomes, and every message that was published, arrived or not."""
    tail = SteadyTail(bundle.manifest, failure=RuntimeError("broken") if scene.broken else None)
    policy = limited(scene.policy, scene.limit)
    async with staged(bundle, tail, policy=policy) as stage:
        for name, count in scene.faults.items():
            setattr(stage.broker.faults, name, count)
        if scene.router is not None:
            stage.node._orchestrator.router = Stubborn(policy, scene.router)
        outcomes = [
            await stage.node.infer(SAMPLE, privacy=privacy, deadline_ms=deadline, max_cost=cost)
            for privacy, deadline, cost in scene.asked
        ]
        return outcomes, [*stage.heard, *stage.broker.faults.lost]


@given(scenes)
def test_no_frame_is_published_at_a_point_above_the_limit(scene: Scene) -> None:
    with TemporaryDirectory() as place:
        bundle = make_bundle(Path(place), fields=fields(scene.ssims, exit_=scene.exit_))
        outcomes, published = run_virtually(played(scene, bundle))
    check(bundle.manifest, scene.limit, published)
    assert len(outcomes) == len(scene.asked)
    assert all(outcome.source != "none" for outcome in outcomes) or not scene.exit_


def shipped(
    tmp_path: Path, policy: TaskRoutingPolicy, ssims: Ssims, *, exit_: bool = True
) -> tuple[Outcome, list[int]]:
    """One public request: its outcome, and the points of the frames that it took."""
    bundle = make_bundle(tmp_path, fields=fields(ssims, exit_=exit_))

    async def main() -> tuple[Outcome, list[int]]:
        async with staged(bundle, NoOpTail(bundle.manifest), policy=policy) as stage:
            outcome = await stage.node.infer(SAMPLE)
            return outcome, points_of(stage.heard)

    return run_virtually(main())


@pytest.mark.parametrize(
    ("limit", "points"),
    [(None, [AFFINE_POINT]), (0.7, [AFFINE_POINT]), (0.6, [MINMAX_POINT]), (0.4, [MINMAX_POINT]), (0.39, [])],
)
def test_the_best_point_that_the_limit_allows_is_taken(tmp_path: Path, limit: float | None, points: list[int]) -> None:
    ssims = {AFFINE_POINT: 0.7, MINMAX_POINT: 0.4}
    outcome, sent = shipped(tmp_path, limited(HYBRID, limit), ssims)
    assert (sent, outcome.source) == (points, "cloud" if points else "edge")


def test_a_point_that_was_not_measured_is_not_taken_for_one_that_leaks_little(tmp_path: Path) -> None:
    _, sent = shipped(tmp_path, limited(HYBRID, 1.0), {AFFINE_POINT: None, MINMAX_POINT: 1.0})
    assert sent == [MINMAX_POINT]


@pytest.mark.parametrize(
    ("limit", "ssims", "points"),
    [
        (1.0, {}, [INPUT_POINT]),
        (0.99, {}, []),
        (0.99, {LOSSY_POINT: 0.95}, [LOSSY_POINT]),
        (0.9, {LOSSY_POINT: 0.95}, []),
        (0.9, {INPUT_POINT: 0.1}, []),
    ],
    ids=["lossless is 1", "over 1", "lossy", "lossy over", "lossless is 1 whatever is stated"],
)
def test_the_input_is_held_to_it_too(tmp_path: Path, limit: float, ssims: Ssims, points: list[int]) -> None:
    outcome, sent = shipped(tmp_path, limited(CLOUD, limit), ssims)
    assert (sent, outcome.source) == (points, "cloud" if points else "edge")


def test_when_nothing_may_leave_the_edge_answers_and_says_why(tmp_path: Path) -> None:
    outcome, sent = shipped(tmp_path, limited(HYBRID, 0.3), {AFFINE_POINT: 0.8, MINMAX_POINT: 0.5})
    assert (sent, outcome.route, outcome.source, outcome.attempts) == ([], Route.EDGE_ONLY, "edge", 0)
    assert "hybrid_split is withheld: point 1: its SSIM is 0.5, max_ssim is 0.3" in outcome.reason
    assert "cloud_only is withheld: point 2: its SSIM is 1, max_ssim is 0.3" in outcome.reason


def test_without_an_exit_the_answer_is_the_reason(tmp_path: Path) -> None:
    outcome, sent = shipped(tmp_path, limited(HYBRID, 0.3), {AFFINE_POINT: 0.8}, exit_=False)
    assert (sent, outcome.source, outcome.label) == ([], "none", None)
    assert "point 0: its SSIM is 0.8, max_ssim is 0.3" in outcome.reason


def test_a_split_that_is_withheld_does_not_send_the_input_in_its_stead(tmp_path: Path) -> None:
    ssims = {AFFINE_POINT: 0.8, MINMAX_POINT: 0.8, LOSSY_POINT: 0.6}
    outcome, sent = shipped(tmp_path, limited(HYBRID, 0.7), ssims)
    assert (sent, outcome.route) == ([], Route.EDGE_ONLY)
    why = "hybrid_split is withheld: point 0: its SSIM is 0.8, max_ssim is 0.7"
    assert why in outcome.reason


def test_a_cloud_that_is_withheld_leaves_the_split(tmp_path: Path) -> None:
    outcome, sent = shipped(tmp_path, limited(CLOUD, 0.7), {AFFINE_POINT: 0.8, MINMAX_POINT: 0.6})
    assert (sent, outcome.route, outcome.source) == ([MINMAX_POINT], Route.HYBRID_SPLIT, "cloud")
    assert "cloud_only is withheld: point 2: its SSIM is 1, max_ssim is 0.7" in outcome.reason


def test_an_edge_answer_in_doubt_is_not_checked_at_a_withheld_point(tmp_path: Path) -> None:
    doubting = TaskRoutingPolicy(
        privacy_weight=1, latency_weight=0, cost_weight=0, complexity_weight=0, edge_preference=0, cloud_preference=0,
        confidence_threshold=1.0,
    )  # fmt: skip
    ssims = {AFFINE_POINT: 0.8, MINMAX_POINT: 0.6, LOSSY_POINT: 0.1}
    bundle = make_bundle(tmp_path, fields=fields(ssims))

    async def main(limit: float) -> list[int]:
        policy = limited(doubting, limit)
        async with staged(bundle, NoOpTail(bundle.manifest), policy=policy) as stage:
            outcome = await stage.node.infer(SAMPLE, privacy=PrivacyLevel.CONFIDENTIAL)
            assert outcome.route is Route.EDGE_ONLY
            return points_of(stage.heard)

    assert [run_virtually(main(limit)) for limit in (0.9, 0.7, 0.5)] == [[AFFINE_POINT], [MINMAX_POINT], []]


@pytest.mark.parametrize("policy", [HYBRID, CLOUD], ids=["hybrid", "cloud"])
def test_a_choice_of_points_that_is_wrong_about_it_ships_nothing(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, policy: TaskRoutingPolicy
) -> None:
    """The last check is of its own: here every point is said to be open, and none was measured."""
    points = {point.part: point for point in tiny.manifest.points}
    monkeypatch.setattr(Outlook, "point", lambda _, part, __: points[part])

    async def main(limit: float | None) -> tuple[str, list[int]]:
        async with staged(tiny, NoOpTail(tiny.manifest), policy=limited(policy, limit)) as stage:
            return (await stage.node.infer(SAMPLE)).source, points_of(stage.heard)

    assert run_virtually(main(None))[0] == "cloud"
    assert run_virtually(main(0.9)) == ("edge", [])
