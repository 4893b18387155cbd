"""Where a request goes: hard rules first, then four weighted scores. Pure: same input, same decision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edge_node.estimates import Prediction
from schemas.errors import ConfigError
from schemas.messages import Scores
from schemas.policy import Priority, PrivacyLevel, Route, TaskRoutingPolicy

PRIVACY_SCORES = {
    PrivacyLevel.PUBLIC: 0.0,
    PrivacyLevel.INTERNAL: 0.3,
    PrivacyLevel.CONFIDENTIAL: 0.7,
    PrivacyLevel.RESTRICTED: 1.0,
}
THRESHOLD_MARGIN = 0.03
"""By so much must a score cross one of the policy's thresholds to change what the last request was given."""
_ACCURACY_GAP_FULL = 0.10
"""An exit that is this much less accurate than the cloud has a complexity score of 0."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller asks for. Raises ConfigError for a value that is none of what it may be."""

    privacy: PrivacyLevel = PrivacyLevel.PUBLIC
    deadline_ms: float = 1000.0
    max_cost: float | None = None
    """Most US dollars that this inference may cost; None for no limit."""
    priority: Priority = Priority.NORMAL

    def __post_init__(self) -> None:
        for name, levels in (("privacy", PrivacyLevel), ("priority", Priority)):
            try:  # a plain "restricted" must hold too
                object.__setattr__(self, name, levels(getattr(self, name)))
            except ValueError:
                msg = f"{name} {getattr(self, name)!r} is none of {', '.join(levels)}"
                raise ConfigError(msg) from None
        if not 0 < self.deadline_ms < math.inf:
            msg = f"deadline_ms is {self.deadline_ms}; give the milliseconds until the answer is due"
            raise ConfigError(msg)
        if self.max_cost is not None and (math.isnan(self.max_cost) or self.max_cost < 0):
            msg = f"max_cost is {self.max_cost}; give US dollars, or None for no limit"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class RouterState:
    """What the node knows at this moment."""

    cloud_available: bool
    """Whether the link is up and a live worker serves the active line with the same interface."""
    has_exit: bool
    head_mb: float
    exit_accuracy: float | None
    full_accuracy: float | None
    hybrid: Prediction | None
    """None when no operating point ships the cut: there is none, or none may be used."""
    cloud: Prediction | None
    """None when no operating point ships the input, likewise."""
    obstacle: str = "no live worker serves this line"
    """Why the cloud is not available, where it is not."""
    withheld: Mapping[Route, str] = field(default_factory=dict)
    """Shipping routes whose every operating point the policy keeps on the device, and why."""
    previous: Route | None = None
    """What the scores wanted for the last request of the same privacy."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A route and why; the scores are None when a hard rule decided."""

    route: Route
    reason: str
    scores: Scores | None = None
    wanted: Route | None = None
    """What the scores wanted, whether or not it was open."""


class TaskRouter:
    """Multi-factor routing under one policy."""

    def __init__(self, policy: TaskRoutingPolicy) -> None:
        self.policy = policy

    def route(self, request: Request, state: RouterState) -> Decision:
        """The decision for one request. RESTRICTED is decided first and by nothing else."""
        if request.privacy is PrivacyLevel.RESTRICTED:
            return Decision(Route.EDGE_ONLY, "restricted: never leaves the device")
        if not state.cloud_available:
            return Decision(Route.FALLBACK_EDGE, state.obstacle)
        ways, closed = _open_ways(request, state)
        if not ways:
            why = "; ".join(f"{route} {reason}" for route, reason in closed.items()) or "the bundle ships nothing"
            return Decision(Route.EDGE_ONLY if state.has_exit else Route.FALLBACK_EDGE, why)
        return self._preference(request, state, ways, closed)

    def would_ship(self, request: Request, state: RouterState) -> bool:
        """Whether a request that stays would go out if link and breaker were at their best: is a probe worth it."""
        if request.privacy is PrivacyLevel.RESTRICTED or self.policy.pinned in {Route.EDGE_ONLY, Route.FALLBACK_EDGE}:
            return False
        hybrid, cloud = (each and replace(each, latency_ms=0.0) for each in (state.hybrid, state.cloud))
        best = replace(state, cloud_available=True, hybrid=hybrid, cloud=cloud)
        return self.route(request, best).route in {Route.HYBRID_SPLIT, Route.CLOUD_ONLY}

    def _preference(
        self, request: Request, state: RouterState, ways: Mapping[Route, Prediction], closed: Mapping[Route, str]
    ) -> Decision:
        """What pin or scores want, or the nearest to it that is open."""
        scores = self.scores(request, state)
        preference = scores.edge_preference
        if self.policy.pinned is not None:
            wanted, reason = self.policy.pinned, "pinned by the policy"
        else:
            wanted, where = self._wanted(preference, state.previous)
            reason = f"edge preference {preference:.2f} {where}"
        route = _nearest(wanted, state, ways)
        if route is not wanted:
            why = f" {closed[wanted]}" if wanted in closed else " is not open"
            reason = f"{reason}, {wanted}{why}"
        return Decision(route, reason, scores, wanted)

    def _wanted(self, preference: float, previous: Route | None) -> tuple[Route, str]:
        """What a weighted score wants, and where it lies by the policy's thresholds.

        Each is crossed only by more than a margin, so that a score beside one does not take requests back and forth.
        """
        low, high = self.policy.cloud_preference, self.policy.edge_preference
        if preference > high + _off(previous, Route.EDGE_ONLY):
            return Route.EDGE_ONLY, f"above {high:g}" if preference > high else f"still about {high:g}"
        if preference < low - _off(previous, Route.CLOUD_ONLY):
            return Route.CLOUD_ONLY, f"below {low:g}" if preference < low else f"still about {low:g}"
        inside = low <= preference <= high
        return Route.HYBRID_SPLIT, f"{'within' if inside else 'still about'} {low:g} to {high:g}"

    def scores(self, request: Request, state: RouterState) -> Scores:
        """The four factors in [0, 1], higher preferring the edge, and their weighted sum."""
        shipped = state.hybrid or state.cloud
        privacy = PRIVACY_SCORES[request.privacy]
        latency = _unit(shipped.latency_ms / (2 * self.policy.latency_threshold_ms)) if shipped else 1.0
        cost = _unit(shipped.cost / (request.max_cost or self.policy.cost_budget)) if shipped else 1.0
        complexity = self._complexity(state)
        factors = zip(self.policy.weights, (privacy, latency, cost, complexity), strict=True)
        total = _unit(sum(weight * factor for weight, factor in factors))
        return Scores(privacy=privacy, latency=latency, cost=cost, complexity=complexity, edge_preference=total)

    def _complexity(self, state: RouterState) -> float:
        """1 when the exit is as accurate as the cloud, 0 when it is far behind, missing or too large."""
        if not state.has_exit or state.head_mb > self.policy.edge_model_max_mb:
            return 0.0
        if state.exit_accuracy is None or state.full_accuracy is None:
            return 0.5
        return _unit(1.0 - (state.full_accuracy - state.exit_accuracy) / _ACCURACY_GAP_FULL)


def over_limit(request: Request, prediction: Prediction) -> str:
    """Which of the request's limits a prediction breaks, in words; empty when none."""
    if prediction.latency_ms > request.deadline_ms:
        return f"would take {prediction.latency_ms:.0f} ms of {request.deadline_ms:.0f}"
    if request.max_cost is not None and prediction.cost > request.max_cost:
        return f"would cost {prediction.cost:.3g} of {request.max_cost:.3g} dollars"
    return ""


def _open_ways(request: Request, state: RouterState) -> tuple[dict[Route, Prediction], dict[Route, str]]:
    """The shipping routes that the bundle has and the limits allow, and why the others of the bundle are closed.

    Without an exit nothing but the cloud can answer, so a deadline that will probably be missed closes no way
    then; a cost does.
    """
    ways: dict[Route, Prediction] = {}
    closed = {route: f"is withheld: {reason}" for route, reason in state.withheld.items()}
    for route, prediction in ((Route.HYBRID_SPLIT, state.hybrid), (Route.CLOUD_ONLY, state.cloud)):
        if prediction is None:
            continue
        if reason := over_limit(request, prediction if state.has_exit else replace(prediction, latency_ms=0.0)):
            closed[route] = reason
        else:
            ways[route] = prediction
    return ways, closed


def _nearest(wanted: Route, state: RouterState, ways: Mapping[Route, Prediction]) -> Route:
    """The route that is wanted, or else the one that is nearest to it; more privacy never goes further out."""
    if wanted is Route.FALLBACK_EDGE or wanted in ways or (wanted is Route.EDGE_ONLY and state.has_exit):
        return wanted
    in_bundle = state.hybrid is not None or Route.HYBRID_SPLIT in state.withheld
    if wanted is Route.HYBRID_SPLIT and in_bundle and state.has_exit:
        return Route.EDGE_ONLY  # it is over a limit
    return next(iter(ways))


def _off(previous: Route | None, route: Route) -> float:
    """How far beyond a threshold a score must be to change from the previous route to another."""
    if previous is None:
        return 0.0
    return -THRESHOLD_MARGIN if previous is route else THRESHOLD_MARGIN


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
