"""One sample's life: route, head, answer or ship, escalate, fall back. Always exactly one outcome."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from edge_node.bar import Bar, bar_of
from edge_node.estimates import Estimates, Prediction
from edge_node.heads import Head, HeadOutput
from edge_node.outcomes import Life, LocalAnswer, outcome_of
from edge_node.router import Decision, Request, RouterState, TaskRouter, over_limit
from edge_node.uplink import Shipment, Uplink
from schemas.bundle import HEAD_NUMPY, HEAD_TFLITE, Manifest, OperatingPoint
from schemas.certificate import Certificate
from schemas.errors import SampleError, TensorError
from schemas.messages import Outcome
from schemas.policy import PrivacyLevel, Route
from schemas.probability import softmax
from schemas.tensor import Array, FloatArray

_MARGIN_S = 0.003
"""Kept back from the deadline for what comes after the reply."""


@dataclass(slots=True)
class EdgeCloudOrchestrator:
    """Takes samples of one bundle to outcomes, with the edge's answer always at hand.

    The head runs in `executor`, which must have one thread. A cloud answer supersedes the edge's when it is
    the more confident one, or the exit is unsure, and it comes before the deadline.
    """

    node: str
    manifest: Manifest
    head: Head
    executor: Executor
    router: TaskRouter
    estimates: Estimates
    uplink: Uplink | None
    certificate: Certificate | None = None
    """What is promised about the exit; its threshold is then the one by which an answer is sure."""
    _count: int = field(default=0)

    async def infer(self, sample: Array, request: Request) -> Outcome:
        """The one outcome of a request, by its deadline as far as the head itself allows.

        Raises SampleError, naming what was expected, for a sample that the model does not take.
        """
        try:
            self.manifest.sample.check(sample, "sample")
        except TensorError as error:
            raise SampleError(str(error)) from None
        self._count += 1
        deadline = asyncio.get_running_loop().time() + request.deadline_ms / 1e3 - _MARGIN_S
        started = time.perf_counter()
        state = self.state(request)
        life = Life(str(self._count), request, started, deadline, self.router.route(request, state))
        if life.decision.route is Route.CLOUD_ONLY:
            await self._in_the_cloud(sample, life)
        else:
            await self._on_the_edge(sample, life, state)
        return outcome_of(life, self.node, self.manifest, self.router.policy, time.perf_counter())

    @property
    def bar(self) -> Bar | None:
        """By what an answer of the exit is sure at this moment; None without an exit."""
        exit_ = self.manifest.exit
        return None if exit_ is None else bar_of(exit_, self.certificate, self.router.policy)

    def state(self, request: Request) -> RouterState:
        """What the router may know at this moment."""
        profile = self.manifest.profile
        obstacle = "this node has no broker" if self.uplink is None else self.uplink.obstacle()
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
        )

    def _withheld(self) -> dict[Route, str]:
        """Routes of which the policy's `max_ssim` leaves no operating point, with the point that is nearest to it."""
        found: dict[Route, str] = {}
        if self.router.policy.max_ssim is None:
            return found
        for route, part in ((Route.HYBRID_SPLIT, "tail"), (Route.CLOUD_ONLY, "full")):
            points = [point for point in self.manifest.points if point.part == part]
            if points and all(self._refused(point) for point in points):
                least = min(points, key=lambda point: math.inf if point.ssim is None else point.ssim)
                found[route] = f"point {least.id}: {self._refused(least)}"
        return found

    def _refused(self, point: OperatingPoint) -> str:
        """Why the policy keeps what this point would ship on the device; empty where it does not."""
        policy = self.router.policy
        return "" if policy.max_ssim is None else policy.over_max_ssim(point.ssim)

    def _predicted(self, part: str, request: Request) -> Prediction | None:
        point = self._point(part, request)
        return None if point is None else self.estimates.predict(point, self.router.policy.prices)

    async def _on_the_edge(self, sample: Array, life: Life, state: RouterState) -> None:
        output = await self._run_head(sample, life)
        point = self._point("tail", life.request)
        if point is None or not self._should_ship(life, state):
            return
        life.shipment = await self._ship(point, output.cut, life, life.deadline)
        life.escalated = life.local is not None and life.shipment is not None and life.shipment.attempts > 0

    async def _in_the_cloud(self, sample: Array, life: Life) -> None:
        """Ship the input; keep enough time to answer on the edge when nothing comes back."""
        point = self._point("full", life.request)
        reserve = 2e-3 * self.estimates.head_ms.value + 0.01 if self.manifest.exit else 0.0
        if point is not None:
            life.shipment = await self._ship(point, sample, life, life.deadline - reserve)
        if (life.shipment is None or life.shipment.answer is None) and self.manifest.exit is not None:
            await self._run_head(sample, life)

    def _should_ship(self, life: Life, state: RouterState) -> bool:
        """Whether the cut is worth shipping now that the exit has spoken."""
        decision, local = life.decision, life.local
        if decision.route is Route.FALLBACK_EDGE:
            return False
        if decision.route is Route.HYBRID_SPLIT:
            return local is None or not local.sure
        return self._is_doubted(local) and self._may_escalate(decision, life.request, state)

    def _is_doubted(self, local: LocalAnswer | None) -> bool:
        """Whether an EDGE_ONLY answer is worth a check: below a certified threshold, else below the policy's."""
        if local is None:
            return True
        if local.bar.certificate is not None:
            return not local.sure
        return local.confidence < self.router.policy.confidence_threshold

    def _may_escalate(self, decision: Decision, request: Request, state: RouterState) -> bool:
        """Whether an EDGE_ONLY answer may be checked with the cloud: by choice of the scores, within the limits."""
        if (
            decision.route is not Route.EDGE_ONLY
            or self.router.policy.pinned is Route.EDGE_ONLY
            or state.hybrid is None
        ):
            return False
        return not over_limit(request, state.hybrid)

    async def _ship(self, point: OperatingPoint, array: Array, life: Life, deadline: float) -> Shipment | None:
        """The only way out: nothing restricted passes, nor what shows too much, whatever the router said."""
        if self.uplink is None or life.request.privacy is PrivacyLevel.RESTRICTED or self._refused(point):
            return None
        return await self.uplink.ship(point, array, deadline)

    async def _run_head(self, sample: Array, life: Life) -> HeadOutput:
        loop = asyncio.get_running_loop()
        output, life.preprocess_ms, life.head_ms = await loop.run_in_executor(self.executor, self._head_job, sample)
        if life.request.privacy is not PrivacyLevel.RESTRICTED:  # the average is published
            self.estimates.head_ms.observe(life.preprocess_ms + life.head_ms)
        if output.logits is not None and self.manifest.exit is not None and (bar := self.bar) is not None:
            life.local = exit_answer(output.logits, self.manifest.exit.temperature, bar)
        return output

    def _head_job(self, sample: Array) -> tuple[HeadOutput, float, float]:
        begun = time.perf_counter()
        inputs = self.manifest.preprocess.apply(sample)
        ready = time.perf_counter()
        output = self.head.run(inputs)
        return output, (ready - begun) * 1e3, (time.perf_counter() - ready) * 1e3

    def _point(self, part: str, request: Request) -> OperatingPoint | None:
        """The operating point for one frame: the first in the bundle, which lists the best first, within the limits.

        Where none is, the quickest of those that cost no more than allowed, the first of equals; else the cheapest.
        The router decides whether that may go. Points that the policy withholds do not count.
        """
        prices, others = self.router.policy.prices, []
        for point in self.manifest.points:
            if point.part == part and not self._refused(point):
                predicted = self.estimates.predict(point, prices)
                if not over_limit(request, predicted):
                    return point
                others.append((point, predicted))
        most = math.inf if request.max_cost is None else request.max_cost
        affordable = [(point, predicted) for point, predicted in others if predicted.cost <= most]
        if affordable:
            return min(affordable, key=lambda each: each[1].latency_ms)[0]
        return min(others, key=lambda each: each[1].cost, default=(None, None))[0]


def exit_answer(logits: FloatArray, temperature: float, bar: Bar) -> LocalAnswer | None:
    """The exit's answer; logits (labels,), softmax at the calibrated temperature (Guo et al., 2017).

    None when they are not finite: then the exit has nothing to say.
    """
    if not np.isfinite(logits).all():
        return None
    chances = softmax(logits, temperature)
    label = int(chances.argmax())
    confidence = float(chances[label])
    return LocalAnswer(label, confidence, bar)


def _head_bytes(manifest: Manifest) -> int:
    """Size of the smallest head in the bundle."""
    return min(manifest.files[name].size for name in (HEAD_TFLITE, HEAD_NUMPY) if name in manifest.files)
