"""Chooses where to cut a profiled model and through which codec to ship it: pure functions, nothing is measured.

    score = latency * mean_ms / 100
          + cost * dollars for 1,000 / 0.1
          + bytes * mean bytes / 1000
          + quality * loss                  KL / 0.1 nats where all is measured, else accuracy lost / 0.01
          + edge_macs * share of the multiply-accumulates on the edge

The least score among the admissible wins. The scales are fixed, so that a candidate's score depends on no other
candidate: one more cut in the profile never changes the order of the rest. (Accuracy lost counts from the profile's
best, which moves all scores alike.) Every candidate is priced; there are few enough of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

from pydantic import Field, model_validator

from cloud_worker.build.measure.profile_file import Quality, SplitProfile
from cloud_worker.build.plan.candidates import Candidate, Pricing
from cloud_worker.build.plan.network import Link
from schemas.errors import ConfigError, PlanError
from schemas.policy import Prices, Route
from schemas.record import Record
from schemas.wire import MAX_FRAME_BYTES

LATENCY_SCALE_MS: Final = 100.0
COST_SCALE: Final = 0.1
BYTES_SCALE: Final = 1000.0
KL_SCALE_NATS: Final = 0.1
ACCURACY_SCALE: Final = 0.01

Weight = Annotated[float, Field(ge=0, le=1e6)]
Limit = Annotated[float, Field(ge=0)] | None


class Objective(Record):
    """What a point of score is worth; the module says how they add up."""

    latency: Weight = 1.0
    """For 100 ms of mean latency."""
    cost: Weight = 1.0
    """For 10 cents a thousand inferences."""
    bytes: Weight = 0.0
    """For 1000 bytes; their price is in the cost already."""
    quality: Weight = 1.0
    """For 0.1 nats of KL divergence, or for a hundredth of accuracy lost."""
    edge_macs: Weight = 0.0
    """For the whole model on the edge: what its processor and its battery feel."""

    @model_validator(mode="after")
    def _usable(self) -> Objective:
        if not any((self.latency, self.cost, self.bytes, self.quality, self.edge_macs)):
            msg = "all weights are 0; set at least one"
            raise ValueError(msg)
        return self


class Constraints(Record):
    """What a candidate must keep to; None is no limit. A figure that was not measured keeps to no limit."""

    max_latency_p95_ms: Limit = None
    max_bytes_p95: Limit = None
    """Both directions, MQTT included."""
    max_frame_bytes: Limit = float(MAX_FRAME_BYTES)
    """Of the frame up, p95; brokers and workers refuse more."""
    max_cost_per_1000: Limit = None
    """US dollars."""
    max_kl_nats: Limit = None
    min_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    max_edge_macs_share: Limit = None
    max_edge_ms_p95: Limit = None
    """The edge's own work: the head and encoding."""
    max_ssim: Limit = None
    """Of what an attacker made of the payload: a lower bound on what it leaks."""


_FIGURES: Final[Mapping[str, Callable[[Candidate], float | None]]] = {
    "max_latency_p95_ms": lambda candidate: candidate.p95.total_ms,
    "max_bytes_p95": lambda candidate: candidate.bytes_p95,
    "max_frame_bytes": lambda candidate: candidate.frame_bytes_p95,
    "max_cost_per_1000": lambda candidate: candidate.cost_per_1000,
    "max_kl_nats": lambda candidate: candidate.quality.kl_nats,
    "min_accuracy": lambda candidate: candidate.quality.accuracy,
    "max_edge_macs_share": lambda candidate: candidate.site.macs_share,
    "max_edge_ms_p95": lambda candidate: candidate.p95.edge_ms + candidate.p95.encode_ms,
    "max_ssim": lambda candidate: candidate.ssim,
}
_LEAST: Final = ("min_accuracy",)
"""Limits from below."""


@dataclass(frozen=True, slots=True)
class Miss:
    """A constraint that a candidate does not keep to."""

    constraint: str
    limit: float
    value: float | None
    """None when it was not measured."""

    @property
    def share(self) -> float:
        """How far off, from 0 to 1: the difference's share of the larger of the two; infinite when not measured."""
        if self.value is None:
            return math.inf
        return abs(self.value - self.limit) / max(self.value, self.limit)

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.constraint} is {self.limit:g}, which was not measured"
        side = "under" if self.value < self.limit else "over"
        return (
            f"{self.constraint} is {self.limit:g}, it has {self.value:.4g}, {abs(self.value - self.limit):.4g} {side}"
        )


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate, its score (less is better) and the constraints that it misses."""

    candidate: Candidate
    score: float
    misses: tuple[Miss, ...]

    @property
    def admissible(self) -> bool:
        """Whether it keeps to every constraint."""
        return not self.misses


@dataclass(frozen=True, slots=True)
class Plan:
    """Every candidate, best first; those that are not admissible come last, by score too."""

    profile: SplitProfile
    link: Link
    prices: Prices
    objective: Objective
    constraints: Constraints
    ranked: tuple[Ranked, ...]

    @property
    def best(self) -> Ranked:
        """What to deploy; always admissible."""
        return self.ranked[0]

    def best_of(self, route: Route) -> Ranked:
        """The best of those that are cut, of all in the cloud or of all on the edge. Raises KeyError without any."""
        found = next((each for each in self.ranked if each.candidate.site.route is route), None)
        if found is None:
            raise KeyError(route)
        return found

    def by_cut(self) -> tuple[Ranked, ...]:
        """The best operating point of each cut, from all in the cloud to all on the edge."""
        best: dict[int | None, Ranked] = {}
        for each in self.ranked:
            best.setdefault(each.candidate.site.cut, each)
        return tuple(sorted(best.values(), key=_depth))


def plan(
    profile: SplitProfile,
    link: Link,
    prices: Prices = Prices(),  # noqa: B008 - frozen
    objective: Objective = Objective(),  # noqa: B008 - frozen
    constraints: Constraints = Constraints(),  # noqa: B008 - frozen
) -> Plan:
    """The ranking of every cut, codec and operating point, with both extremes.

    Equal scores are ranked by latency p95, then bytes, then as the profile lists them. Raises PlanError when none is
    admissible; it names the one that comes nearest, and what it misses by how much. Raises ConfigError for a limit on
    SSIM with a profile that has none.
    """
    _check_measured(profile, constraints)
    loss, bounds = _quality_loss(profile), _bounds(constraints)
    ranked = [
        Ranked(candidate, score(candidate, loss(candidate.quality), objective), _misses(candidate, bounds))
        for candidate in Pricing(link, prices).candidates(profile)
    ]
    ranked.sort(key=_rank)
    if not ranked[0].admissible:
        raise _nothing_admissible(profile.model, ranked)
    return Plan(profile, link, prices, objective, constraints, tuple(ranked))


def score(candidate: Candidate, quality_loss: float, objective: Objective) -> float:
    """The weighted sum; `quality_loss` is in its scale."""
    return (
        objective.latency * candidate.mean_ms / LATENCY_SCALE_MS
        + objective.cost * candidate.cost_per_1000 / COST_SCALE
        + objective.bytes * candidate.bytes_mean / BYTES_SCALE
        + objective.quality * quality_loss
        + objective.edge_macs * candidate.site.macs_share
    )


def _check_measured(profile: SplitProfile, constraints: Constraints) -> None:
    """A profile without leakage must not pass for one that leaks little."""
    if constraints.max_ssim is None or profile.has_ssim:
        return
    reason = "its leakage was not measured"
    if any(point.leakage is not None for point in profile.points):
        reason = "its samples are no images of 11x11 pixels or more, so their leakage has no SSIM"
    msg = f"max_ssim is {constraints.max_ssim:g}, but the profile of {profile.model} cannot be held to it: {reason}; "
    raise ConfigError(f"{msg}measure it again with images and leakage, or leave max_ssim out")


def _quality_loss(profile: SplitProfile) -> Callable[[Quality], float]:
    """By KL divergence where every candidate has it, else by accuracy below the profile's best."""
    if profile.has_kl:
        return lambda quality: (quality.kl_nats or 0.0) / KL_SCALE_NATS
    best = max(quality.accuracy or 0.0 for quality in profile.qualities)
    return lambda quality: (best - (quality.accuracy or 0.0)) / ACCURACY_SCALE


class _Bound(NamedTuple):
    """A constraint that is set."""

    name: str
    limit: float
    figure: Callable[[Candidate], float | None]

    def keeps(self, value: float | None) -> bool:
        if value is None:
            return False
        return value >= self.limit if self.name in _LEAST else value <= self.limit


def _bounds(constraints: Constraints) -> tuple[_Bound, ...]:
    limits: dict[str, float] = constraints.model_dump(exclude_none=True)
    return tuple(_Bound(name, limit, _FIGURES[name]) for name, limit in limits.items())


def _misses(candidate: Candidate, bounds: Iterable[_Bound]) -> tuple[Miss, ...]:
    found = [(bound, bound.figure(candidate)) for bound in bounds]
    return tuple(Miss(bound.name, bound.limit, value) for bound, value in found if not bound.keeps(value))


def _rank(each: Ranked) -> tuple[bool, float, float, float]:
    candidate = each.candidate
    return (not each.admissible, each.score, candidate.p95.total_ms, candidate.bytes_mean)


def _depth(each: Ranked) -> float:
    cut = each.candidate.site.cut
    return math.inf if cut is None else cut


def _nothing_admissible(model: str, ranked: Iterable[Ranked]) -> PlanError:
    """The candidate whose farthest miss is the least comes nearest."""
    nearest = min(ranked, key=lambda each: (max(miss.share for miss in each.misses), len(each.misses), each.score))
    worst = max(nearest.misses, key=lambda miss: miss.share)
    return PlanError(
        model,
        candidate=str(nearest.candidate),
        misses=tuple(str(miss) for miss in nearest.misses),
        constraint=worst.constraint,
        limit=worst.limit,
        value=worst.value,
    )
