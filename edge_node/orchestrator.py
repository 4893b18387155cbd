"""One sample's life: route, head, answer or ship, escalate, fall back. Always exactly one outcome."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from edge_node.background import Background
from edge_node.bar import Bar, bar_of
from edge_node.estimates import Estimates
from edge_node.heads import Head, HeadOutput
from edge_node.outcomes import Life, LocalAnswer, outcome_of
from edge_node.outlook import Outlook
from edge_node.probes import LONGEST_S, Probes
from edge_node.router import Request, RouterState, TaskRouter, over_limit
from edge_node.uplink import Shipment, Uplink
from schemas.bundle import Manifest, OperatingPoint
from schemas.certificate import Certificate
from schemas.errors import SampleError, TensorError
from schemas.messages import Outcome
from schemas.policy import Priority, PrivacyLevel, Route
from schemas.probability import softmax
from schemas.tensor import Array, FloatArray

_MARGIN_S = 0.003
"""Kept back from the deadline for what comes after the reply."""


@dataclass(slots=True)
class EdgeCloudOrchestrator:
    """Takes samples of one bundle to outcomes, with the edge's answer always at hand.

    The head runs in `executor`, which must have one thread. A cloud answer supersedes the edge's when it is
    the more confident one, or the exit is unsure, and it comes before the deadline. `router` may be replaced at
    any time; a request under way keeps the one that it began with.
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
    background: Background = field(default_factory=Background)
    probes: Probes = field(default_factory=Probes)
    _count: int = field(default=0)
    _wanted: dict[PrivacyLevel, Route] = field(default_factory=dict)
    """What the scores wanted last."""

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
        started, router = time.perf_counter(), self.router
        outlook = Outlook(self.manifest, router.policy, self.estimates)
        state = outlook.state(request, self._obstacle(), self._wanted.get(request.privacy))
        life = Life(str(self._count), request, started, deadline, outlook, router.route(request, state))
        if life.decision.wanted is not None:
            self._wanted[request.privacy] = life.decision.wanted
        if life.decision.route is Route.CLOUD_ONLY:
            await self._in_the_cloud(sample, life)
        else:
            output = await self._on_the_edge(sample, life, state)
            self._probe(sample, output, life, router.would_ship(request, state))
        return outcome_of(life, self.node, self.manifest, time.perf_counter())

    @property
    def bar(self) -> Bar | None:
        """By what an answer of the exit is sure at this moment; None without an exit."""
        exit_ = self.manifest.exit
        return None if exit_ is None else bar_of(exit_, self.certificate, self.router.policy)

    def state(self, request: Request) -> RouterState:
        """What the router is told at this moment."""
        return Outlook(self.manifest, self.router.policy, self.estimates).state(request, self._obstacle())

    def _obstacle(self) -> str:
        """Why the cloud is not available. Where nothing else can answer, a request goes as the breaker's probe."""
        if self.uplink is None:
            return "this node has no broker"
        if self.manifest.exit is None and self.uplink.admits_probe():
            return ""
        return self.uplink.obstacle()

    async def _on_the_edge(self, sample: Array, life: Life, state: RouterState) -> HeadOutput:
        output = await self._run_head(sample, life)
        point = life.outlook.point("tail", life.request)
        if point is not None and self._should_ship(life, state):
            life.shipment = await self._ship(point, output.cut, life, life.deadline)
            life.escalated = life.local is not None and life.shipment is not None and life.shipment.attempts > 0
        return output

    async def _in_the_cloud(self, sample: Array, life: Life) -> None:
        """Ship the input; keep enough time to answer on the edge when nothing comes back."""
        point = life.outlook.point("full", life.request)
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
        return _is_doubted(life) and _may_escalate(life, state)

    def _probe(self, sample: Array, output: HeadOutput, life: Life, would_ship: bool) -> None:  # noqa: FBT001
        """Where only link or breaker kept a request here, see how they fare by shipping it too, after its answer."""
        stayed = life.decision.route in {Route.EDGE_ONLY, Route.FALLBACK_EDGE} and life.shipment is None
        if not stayed or not would_ship or life.local is None or self.background.full:
            return
        uplink, now = self.uplink, asyncio.get_running_loop().time()
        every_s, recovering = life.outlook.policy.probe_every_s, self.estimates.recovering
        if uplink is None or not uplink.admits_probe() or not self.probes.due(now, every_s, recovering=recovering):
            return
        point, array = life.outlook.point("tail", life.request), output.cut
        if point is None:
            point, array = life.outlook.point("full", life.request), sample
        if point is not None:
            self.probes.begin(now)
            self.background.start(self._ship_probe(point, array, life), "probe")

    async def _ship_probe(self, point: OperatingPoint, array: Array, life: Life) -> None:
        """Ship what has been answered already, for the estimates alone."""
        longest_s = max(LONGEST_S, life.request.deadline_ms / 1e3)
        try:
            await self._ship(point, array, life, asyncio.get_running_loop().time() + longest_s, Priority.LOW)
        finally:
            self.probes.end()

    async def _ship(
        self, point: OperatingPoint, array: Array, life: Life, deadline: float, priority: Priority | None = None
    ) -> Shipment | None:
        """The only way out: nothing restricted passes, nor what shows or costs too much, whatever the router said."""
        request, outlook = life.request, life.outlook
        if self.uplink is None or request.privacy is PrivacyLevel.RESTRICTED or outlook.refused(point):
            return None
        attempts = outlook.most_attempts(point, request)
        if attempts < 1:
            return None
        return await self.uplink.ship(point, array, deadline, priority or request.priority, attempts)

    async def _run_head(self, sample: Array, life: Life) -> HeadOutput:
        loop = asyncio.get_running_loop()
        output, life.preprocess_ms, life.head_ms = await loop.run_in_executor(self.executor, self._head_job, sample)
        if life.request.privacy is not PrivacyLevel.RESTRICTED:  # the average is published
            self.estimates.head_ms.observe(life.preprocess_ms + life.head_ms)
        if output.logits is not None and (exit_ := self.manifest.exit) is not None:
            bar = bar_of(exit_, self.certificate, life.outlook.policy)
            life.local = exit_answer(output.logits, exit_.temperature, bar)
        return output

    def _head_job(self, sample: Array) -> tuple[HeadOutput, float, float]:
        begun = time.perf_counter()
        inputs = self.manifest.preprocess.apply(sample)
        ready = time.perf_counter()
        output = self.head.run(inputs)
        return output, (ready - begun) * 1e3, (time.perf_counter() - ready) * 1e3


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


def _is_doubted(life: Life) -> bool:
    """Whether an EDGE_ONLY answer is worth a check: below a certified threshold, else below the policy's."""
    local = life.local
    if local is None:
        return True
    if local.bar.certificate is not None:
        return not local.sure
    return local.confidence < life.outlook.policy.confidence_threshold


def _may_escalate(life: Life, state: RouterState) -> bool:
    """Whether an EDGE_ONLY answer may be checked with the cloud: by choice of the scores, within the limits."""
    pinned = life.outlook.policy.pinned is Route.EDGE_ONLY
    if life.decision.route is not Route.EDGE_ONLY or pinned or state.hybrid is None:
        return False
    return not over_limit(life.request, state.hybrid)
