"""Where a request goes: hard rules first, then four weighted scores. Pure: same input, same decision."""

from __future__ import annotations

from dataclasses import dataclass

from edge_node.estimates import Prediction
from schemas.messages import Scores
from schemas.policy import PrivacyLevel, Route, TaskRoutingPolicy

PRIVACY_SCORES = {
    PrivacyLevel.PUBLIC: 0.0,
    PrivacyLevel.INTERNAL: 0.3,
    PrivacyLevel.CONFIDENTIAL: 0.7,
    PrivacyLevel.RESTRICTED: 1.0,
}
_ACCURACY_GAP_FULL = 0.10
"""An exit that is this much less accurate than the cloud has a complexity score of 0."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller asks for."""

    privacy: PrivacyLevel = PrivacyLevel.PUBLIC
    deadline_ms: float = 1000.0
    max_cost: float | None = None
    """Most US dollars that this inference may cost; None for no limit."""


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
    """None when the bundle has no operating point that ships the cut."""
    cloud: Prediction | None
    """None when the bundle has no operating point that ships the input."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A route and why; the scores are None when a hard rule decided."""

    route: Route
    reason: str
    scores: Scores | None = None


class TaskRouter:
    """Multi-factor routing under one policy."""

    def __init__(self, policy: TaskRoutingPolicy) -> None:
        self.policy = policy

    def route(self, request: Request, state: RouterState) -> Decision:
        """The decision for one request. RESTRICTED is decided first and by nothing else."""
        if request.privacy is PrivacyLevel.RESTRICTED:
            return Decision(Route.EDGE_ONLY, "restricted: never leaves the device")
        if not state.cloud_available:
            return Decision(Route.FALLBACK_EDGE, "no live worker serves this line")
        return self._limits(request, state) or self._preference(request, state)

    def _limits(self, request: Request, state: RouterState) -> Decision | None:
        if not state.has_exit or state.hybrid is None:
            return None
        if state.hybrid.latency_ms > request.deadline_ms:
            reason = f"hybrid would take {state.hybrid.latency_ms:.0f} ms of {request.deadline_ms:.0f}"
            return Decision(Route.EDGE_ONLY, reason)
        if request.max_cost is not None and state.hybrid.cost > request.max_cost:
            reason = f"hybrid would cost {state.hybrid.cost:.6f} of {request.max_cost:.6f} dollars"
            return Decision(Route.EDGE_ONLY, reason)
        return None

    def _preference(self, request: Request, state: RouterState) -> Decision:
        scores = self.scores(request, state)
        preference = scores.edge_preference
        if self.policy.pinned is not None:
            return Decision(self._possible(self.policy.pinned, state), "pinned by the policy", scores)
        if preference > self.policy.edge_preference:
            wanted = Route.EDGE_ONLY
        elif preference < self.policy.cloud_preference:
            wanted = Route.CLOUD_ONLY
        else:
            wanted = Route.HYBRID_SPLIT
        route = self._possible(wanted, state)
        reason = f"edge preference {preference:.2f}" + ("" if route is wanted else f", {wanted} is not in the bundle")
        return Decision(route, reason, scores)

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

    @staticmethod
    def _possible(wanted: Route, state: RouterState) -> Route:
        """The nearest route that the bundle can take."""
        if wanted is Route.EDGE_ONLY and not state.has_exit:
            wanted = Route.HYBRID_SPLIT
        if wanted is Route.HYBRID_SPLIT and state.hybrid is None:
            wanted = Route.CLOUD_ONLY
        if wanted is Route.CLOUD_ONLY and state.cloud is None:
            wanted = Route.HYBRID_SPLIT if state.hybrid is not None else Route.EDGE_ONLY
        return wanted


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
