"""The router's laws, for any policy, any request and any state."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_node.estimates import Prediction
from edge_node.router import THRESHOLD_MARGIN, Decision, Request, RouterState, TaskRouter
from schemas.errors import ConfigError
from schemas.policy import PrivacyLevel, Route, TaskRoutingPolicy

LEVELS = list(PrivacyLevel)
DISTANCE = {Route.EDGE_ONLY: 0, Route.FALLBACK_EDGE: 0, Route.HYBRID_SPLIT: 1, Route.CLOUD_ONLY: 2}
"""How far a route takes a sample from the device."""
SHIPPING = {Route.HYBRID_SPLIT, Route.CLOUD_ONLY}

shares = st.floats(0, 1)
predictions = st.builds(Prediction, latency_ms=st.floats(0, 3000), cost=st.floats(0, 0.01))
states = st.builds(
    RouterState,
    cloud_available=st.booleans(),
    has_exit=st.booleans(),
    head_mb=st.floats(0, 300),
    exit_accuracy=st.none() | shares,
    full_accuracy=st.none() | shares,
    hybrid=st.none() | predictions,
    cloud=st.none() | predictions,
    previous=st.none() | st.sampled_from(list(Route)),
)
requests = st.builds(
    Request,
    privacy=st.sampled_from(LEVELS),
    deadline_ms=st.floats(1, 3000),
    max_cost=st.none() | st.floats(0, 0.01),
)


@st.composite
def policies(draw: st.DrawFn) -> TaskRoutingPolicy:
    low, high = sorted((draw(shares), draw(shares)))
    weights = draw(st.tuples(shares, shares, shares, shares).filter(lambda each: sum(each) > 0))
    return TaskRoutingPolicy(
        privacy_weight=weights[0],
        latency_weight=weights[1],
        cost_weight=weights[2],
        complexity_weight=weights[3],
        latency_threshold_ms=draw(st.floats(1e-3, 1e4)),
        cloud_preference=low,
        edge_preference=high,
        pinned=draw(st.none() | st.sampled_from(list(Route))),
    )


def route(policy: TaskRoutingPolicy, request: Request, state: RouterState) -> Decision:
    return TaskRouter(policy).route(request, state)


@given(policies(), requests, states)
def test_restricted_stays_on_the_device_whatever_else_holds(
    policy: TaskRoutingPolicy, request: Request, state: RouterState
) -> None:
    assert route(policy, replace(request, privacy=PrivacyLevel.RESTRICTED), state).route is Route.EDGE_ONLY


@given(policies(), requests.filter(lambda each: each.privacy is not PrivacyLevel.RESTRICTED), states)
def test_without_a_cloud_it_falls_back_and_says_why(
    policy: TaskRoutingPolicy, request: Request, state: RouterState
) -> None:
    decision = route(policy, request, replace(state, cloud_available=False, obstacle="the line is cut"))
    assert decision == Decision(Route.FALLBACK_EDGE, "the line is cut")


@given(policies(), requests, states)
def test_every_decision_has_a_reason_and_is_made_again(
    policy: TaskRoutingPolicy, request: Request, state: RouterState
) -> None:
    decision = route(policy, request, state)
    assert decision.reason
    assert route(policy, request, state) == decision


@given(policies(), requests, states)
def test_scores_are_in_the_unit_interval_and_the_sum_is_weighted(
    policy: TaskRoutingPolicy, request: Request, state: RouterState
) -> None:
    scores = TaskRouter(policy).scores(request, state)
    factors = (scores.privacy, scores.latency, scores.cost, scores.complexity)
    assert all(0 <= factor <= 1 for factor in factors)
    assert min(factors) - 1e-9 <= scores.edge_preference <= max(factors) + 1e-9


@given(policies())
def test_weights_are_normalised(policy: TaskRoutingPolicy) -> None:
    assert sum(policy.weights) == pytest.approx(1)


@given(policies(), requests, states)
def test_more_privacy_never_goes_further_to_the_cloud(
    policy: TaskRoutingPolicy, request: Request, state: RouterState
) -> None:
    distances = [DISTANCE[route(policy, replace(request, privacy=level), state).route] for level in LEVELS]
    assert distances == sorted(distances, reverse=True)


@given(policies(), requests, states)
def test_a_shipping_route_is_in_the_bundle_and_within_the_limits(
    policy: TaskRoutingPolicy, request: Request, state: RouterState
) -> None:
    decision = route(policy, request, state)
    if decision.route not in SHIPPING:
        return
    taken = state.hybrid if decision.route is Route.HYBRID_SPLIT else state.cloud
    assert taken is not None
    assert request.max_cost is None or taken.cost <= request.max_cost
    assert taken.latency_ms <= request.deadline_ms or not state.has_exit


@given(policies(), requests.filter(lambda each: each.privacy is not PrivacyLevel.RESTRICTED), states)
def test_without_an_exit_the_edge_is_never_chosen(
    policy: TaskRoutingPolicy, request: Request, state: RouterState
) -> None:
    decision = route(policy, request, replace(state, has_exit=False))
    assert decision.route is not Route.EDGE_ONLY


@given(policies(), requests, states, st.sampled_from(list(Route)))
def test_a_pin_is_taken_wherever_the_hard_rules_leave_it_open(
    policy: TaskRoutingPolicy, request: Request, state: RouterState, pinned: Route
) -> None:
    ample = replace(request, privacy=PrivacyLevel.PUBLIC, deadline_ms=1e9, max_cost=None)
    whole = replace(
        state, cloud_available=True, has_exit=True, hybrid=state.hybrid or Prediction(1, 0), cloud=Prediction(1, 0)
    )
    pinning = policy.model_copy(update={"pinned": pinned})
    assert route(pinning, ample, whole).route is pinned
    assert route(pinning, replace(ample, privacy=PrivacyLevel.RESTRICTED), whole).route is Route.EDGE_ONLY
    assert route(pinning, ample, replace(whole, cloud_available=False)).route is Route.FALLBACK_EDGE


GOOD = RouterState(
    cloud_available=True,
    has_exit=True,
    head_mb=1,
    exit_accuracy=0.80,
    full_accuracy=0.90,
    hybrid=Prediction(20, 1e-5),
    cloud=Prediction(40, 4e-5),
)


@pytest.mark.parametrize(
    ("request_", "state", "expected", "words"),
    [
        (Request(), GOOD, Route.CLOUD_ONLY, "edge preference 0.06 below 0.3"),
        (
            Request(PrivacyLevel.CONFIDENTIAL),
            replace(GOOD, exit_accuracy=0.90),
            Route.HYBRID_SPLIT,
            "0.47 within 0.3 to 0.7",
        ),
        (
            Request(PrivacyLevel.CONFIDENTIAL),
            replace(GOOD, exit_accuracy=0.90, hybrid=Prediction(200, 1e-3)),
            Route.EDGE_ONLY,
            "edge preference 0.91 above 0.7",
        ),
        (Request(deadline_ms=10), GOOD, Route.EDGE_ONLY, "would take 20 ms of 10"),
        (Request(max_cost=1e-6), GOOD, Route.EDGE_ONLY, "would cost 1e-05 of 1e-06 dollars"),
        (Request(deadline_ms=30), GOOD, Route.HYBRID_SPLIT, "below 0.3, cloud_only would take 40 ms of 30"),
        (Request(deadline_ms=10), replace(GOOD, has_exit=False), Route.CLOUD_ONLY, "edge preference"),
        (Request(max_cost=1e-6), replace(GOOD, has_exit=False), Route.FALLBACK_EDGE, "would cost"),
        (Request(), replace(GOOD, cloud=None), Route.HYBRID_SPLIT, "cloud_only is not open"),
        (
            Request(),
            replace(GOOD, cloud=None, withheld={Route.CLOUD_ONLY: "it shows too much"}),
            Route.HYBRID_SPLIT,
            "cloud_only is withheld: it shows too much",
        ),
        (
            Request(deadline_ms=10),
            replace(GOOD, cloud=None, withheld={Route.CLOUD_ONLY: "it shows too much"}),
            Route.EDGE_ONLY,
            "cloud_only is withheld: it shows too much; hybrid_split would take 20 ms of 10",
        ),
    ],
)
def test_examples(request_: Request, state: RouterState, expected: Route, words: str) -> None:
    decision = route(TaskRoutingPolicy(), request_, state)
    assert (decision.route, words in decision.reason) == (expected, True), decision


def test_a_hybrid_over_a_limit_stays_on_the_edge_rather_than_ship_the_input() -> None:
    policy = TaskRoutingPolicy(pinned=Route.HYBRID_SPLIT)
    state = replace(GOOD, hybrid=Prediction(500, 1e-5))
    assert route(policy, Request(deadline_ms=100), state).route is Route.EDGE_ONLY


def test_an_exit_too_large_or_too_weak_prefers_the_cloud() -> None:
    router = TaskRouter(TaskRoutingPolicy(edge_model_max_mb=10))
    even = replace(GOOD, exit_accuracy=0.90)
    complexities = [
        router.scores(Request(), state).complexity
        for state in (even, replace(even, head_mb=11), replace(even, exit_accuracy=0.85), replace(even, has_exit=False))
    ]
    assert complexities == pytest.approx([1, 0, 0.5, 0])


@given(policies(), requests, states, st.lists(st.floats(-1, 1), min_size=2, max_size=20))
def test_a_score_that_shakes_beside_a_threshold_switches_once_at_most(
    policy: TaskRoutingPolicy, request: Request, state: RouterState, noise: list[float]
) -> None:
    policy = policy.model_copy(update={"pinned": None, "latency_weight": 1.0})
    latency = policy.latency_threshold_ms
    shake = 0.9 * THRESHOLD_MARGIN * latency  # of scores, the difference of two stays below the margin
    request = replace(request, deadline_ms=1e6, max_cost=None, privacy=PrivacyLevel.PUBLIC)
    wanted: list[Route | None] = []
    for each in noise:
        shaken = Prediction(latency + each * shake, 1e-5)
        previous = wanted[-1] if wanted else state.previous
        whole = replace(state, cloud_available=True, has_exit=True, hybrid=shaken, cloud=shaken, previous=previous)
        wanted.append(route(policy, request, whole).wanted)
    assert sum(one is not two for one, two in pairwise(wanted)) <= 1


def test_what_is_kept_for_the_margin_alone_says_so() -> None:
    near = replace(GOOD, hybrid=Prediction(102, 1e-5), exit_accuracy=0.80)
    assert "0.30" in route(TaskRoutingPolicy(), Request(), near).reason
    decision = route(TaskRoutingPolicy(), Request(), replace(near, previous=Route.CLOUD_ONLY))
    assert (decision.route, decision.reason) == (Route.CLOUD_ONLY, "edge preference 0.30 still about 0.3")
    assert route(TaskRoutingPolicy(), Request(), near).route is Route.HYBRID_SPLIT


def test_plain_text_is_taken_for_its_level_and_nonsense_for_none() -> None:
    assert Request(PrivacyLevel("restricted")) == Request("restricted")  # type: ignore[arg-type]
    assert route(TaskRoutingPolicy(), Request("restricted"), GOOD).route is Route.EDGE_ONLY  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'secret' is none of public"):
        Request("secret")  # type: ignore[arg-type]


@pytest.mark.parametrize("deadline_ms", [0, -1, float("nan"), float("inf")])
def test_a_deadline_that_cannot_be_met_by_anybody_is_refused(deadline_ms: float) -> None:
    with pytest.raises(ConfigError, match="deadline_ms is"):
        Request(deadline_ms=deadline_ms)


@pytest.mark.parametrize("max_cost", [-1e-9, float("nan")])
def test_a_cost_below_nothing_is_refused(max_cost: float) -> None:
    with pytest.raises(ConfigError, match="max_cost is"):
        Request(max_cost=max_cost)


def test_a_policy_whose_thresholds_cross_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"cloud_preference 0\.8 is above"):
        TaskRoutingPolicy(cloud_preference=0.8)
