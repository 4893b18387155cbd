"""What the ways out of the device look like at this moment: operating points, predictions, what is withheld. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_node.averages import MARGIN
from edge_node.estimates import Estimates, Prediction
from edge_node.router import Request, RouterState, over_limit
from schemas.bundle import HEAD_NUMPY, HEAD_TFLITE, Manifest, OperatingPoint, Part
from schemas.policy import Route, TaskRoutingPolicy

PARTS: tuple[tuple[Route, Part], ...] = ((Route.HYBRID_SPLIT, "tail"), (Route.CLOUD_ONLY, "full"))


@dataclass(frozen=True, slots=True)
class Outlook:
    """One bundle under one policy, seen through the estimates."""

    manifest: Manifest
    policy: TaskRoutingPolicy
    estimates: Estimates

    def state(self, request: Request, obstacle: str, previous: Route | None = None) -> RouterState:
        """What the router decides on; `obstacle` says why the cloud is not available, empty when it is.

        `previous` is what the scores wanted for the last request of the same privacy.
        """
        profile = self.manifest.profile
        return RouterState(
            cloud_available=not obstacle,
            obstacle=obstacle,
            has_exit=self.manifest.exit is not None,
            head_mb=_head_bytes(self.manifest) / 1e6,
            exit_accuracy=profile.exit_accuracy,
            full_accuracy=profile.full_accuracy,
            hybrid=self._predicted("tail", request),
            cloud=self._predicted("full", request),
            withheld=self._withheld(),
            previous=previous,
        )

    def point(self, part: Part, request: Request) -> OperatingPoint | None:
        """The operating point for one frame: the first in the bundle, which lists the best first, within the limits.

        Where none is, the first of those that cost no more than allowed and are about as quick as the quickest of
        them, since less accuracy would not buy the time that is missing; else the cheapest.
        The router decides whether that may go. Points that the policy withholds do not count.
        """
        others = []
        for point in self.manifest.points:
            if point.part == part and not self.refused(point):
                predicted = self.estimates.predict(point, self.policy.prices)
                if not over_limit(request, predicted):
                    return point
                others.append((point, predicted))
        most = math.inf if request.max_cost is None else request.max_cost
        affordable = [(point, predicted) for point, predicted in others if predicted.cost <= most]
        if affordable:
            longest_ms = min(predicted.latency_ms for _, predicted in affordable) * (1 + MARGIN)
            return next(point for point, predicted in affordable if predicted.latency_ms <= longest_ms)
        return min(others, key=lambda each: each[1].cost, default=(None, None))[0]

    def refused(self, point: OperatingPoint) -> str:
        """Why the policy keeps what this point would ship on the device; empty where it does not."""
        return "" if self.policy.max_ssim is None else self.policy.over_max_ssim(point.ssim)

    def most_attempts(self, point: OperatingPoint, request: Request) -> int:
        """How many frames at a point the request's `max_cost` pays for."""
        return self.estimates.attempts_within(request.max_cost, point, self.policy.prices)

    def _predicted(self, part: Part, request: Request) -> Prediction | None:
        point = self.point(part, request)
        return None if point is None else self.estimates.predict(point, self.policy.prices)

    def _withheld(self) -> dict[Route, str]:
        """Routes of which the policy's `max_ssim` leaves no operating point, with the point that is nearest to it."""
        found: dict[Route, str] = {}
        if self.policy.max_ssim is None:
            return found
        for route, part in PARTS:
            points = [point for point in self.manifest.points if point.part == part]
            if points and all(self.refused(point) for point in points):
                least = min(points, key=lambda point: math.inf if point.ssim is None else point.ssim)
                found[route] = f"point {least.id}: {self.refused(least)}"
        return found


def _head_bytes(manifest: Manifest) -> int:
    """Size of the smallest head in the bundle."""
    return min(manifest.files[name].size for name in (HEAD_TFLITE, HEAD_NUMPY) if name in manifest.files)
