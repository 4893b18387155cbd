"""A plan as rows: texts for people, one JSON object for machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from cloud_worker.build.plan.candidates import Candidate, Stages
from cloud_worker.build.plan.network import Link
from cloud_worker.build.plan.ranking import Plan, Ranked
from schemas.policy import Route

_EARLY, _LATE = 1 / 3, 2 / 3
_EXTREMES: Final = {Route.CLOUD_ONLY: "cloud only", Route.EDGE_ONLY: "edge only"}


class Row(NamedTuple):
    """Texts of one candidate; a dash for what it has not, or what was not measured."""

    split: str
    """early, middle or late by its share of the multiply-accumulates, or one of the extremes."""
    cut: str
    name: str
    macs: str
    codec: str
    bytes: str
    edge_ms: str
    encode_ms: str
    transfer_ms: str
    cloud_ms: str
    p50_ms: str
    p95_ms: str
    cost: str
    kl: str
    accuracy: str
    ssim: str
    correlation: str
    """Distance correlation of input and payload."""
    score: str
    note: str
    """What it misses, and whether its leakage bounds anything."""


def row_of(ranked: Ranked) -> Row:
    """Times are medians unless they say p95; bytes are those of both directions."""
    candidate, stages = ranked.candidate, ranked.candidate.p50
    return Row(
        split=split_of(candidate),
        cut=_whole(candidate.site.cut),
        name=candidate.site.name,
        macs=f"{candidate.site.macs_share:.0%}",
        codec=candidate.codec,
        bytes=f"{candidate.bytes_mean:,.0f}",
        edge_ms=f"{stages.edge_ms:.1f}",
        encode_ms=f"{stages.encode_ms:.1f}",
        transfer_ms=f"{stages.transfer_ms:.1f}",
        cloud_ms=f"{stages.cloud_ms:.1f}",
        p50_ms=f"{stages.total_ms:.1f}",
        p95_ms=f"{candidate.p95.total_ms:.1f}",
        cost=f"{candidate.cost_per_1000:.4f}",
        kl=_number(candidate.quality.kl_nats, ".3f"),
        accuracy=_number(candidate.quality.accuracy, ".2%"),
        ssim=_number(candidate.ssim, ".2f"),
        correlation=_number(_correlation(candidate), ".2f"),
        score=f"{ranked.score:.3f}",
        note="; ".join(_notes(ranked)),
    )


def _notes(ranked: Ranked) -> Iterator[str]:
    yield from (f"misses {miss.constraint}" for miss in ranked.misses)
    leakage = ranked.candidate.leakage
    if leakage is not None and leakage.few:
        yield f"leakage of {leakage.samples} samples bounds nothing"


def _correlation(candidate: Candidate) -> float | None:
    return None if candidate.leakage is None else candidate.leakage.distance_correlation


def split_of(candidate: Candidate) -> str:
    """Early, middle or late: thirds of the model's multiply-accumulates; or the extreme's name."""
    share = candidate.site.macs_share
    between = "early" if share < _EARLY else "late" if share > _LATE else "middle"
    return _EXTREMES.get(candidate.site.route, between)


def link_text(link: Link) -> str:
    """The link in a few words."""
    loss = f", {link.loss:.3g} of the segments lost" if link.loss else ""
    return f"{link.rtt_ms:g} ms round trip, {link.up_mbit_s:g} Mbit/s up, {link.down_mbit_s:g} Mbit/s down{loss}"


def places_text(plan: Plan) -> str:
    """What the times were measured on."""
    edge, cloud = plan.profile.edge, plan.profile.cloud
    return f"edge: {edge.runtime} on {edge.device}; cloud: {cloud.runtime} on {cloud.device}"


def verdict(plan: Plan) -> str:
    """The best in one sentence, with the extremes beside it."""
    others = [plan.best_of(route) for route in (Route.CLOUD_ONLY, Route.EDGE_ONLY)]
    beside = [f"{split_of(each.candidate)} {_figures(each)}" for each in others if each is not plan.best]
    return f"best: {plan.best.candidate}, {_figures(plan.best)}; beside it {'; '.join(beside)}"


def plan_json(plan: Plan) -> dict[str, Any]:
    """What was asked, and every candidate, best first, as plain data."""
    return {
        "model": plan.profile.model,
        "edge": plan.profile.edge.model_dump(),
        "cloud": plan.profile.cloud.model_dump(),
        "link": plan.link.model_dump(),
        "prices": plan.prices.model_dump(),
        "objective": plan.objective.model_dump(),
        "constraints": plan.constraints.model_dump(),
        "best": _json_of(plan.best),
        "candidates": [_json_of(each) for each in plan.ranked],
    }


def _json_of(ranked: Ranked) -> dict[str, Any]:
    candidate, site, point = ranked.candidate, ranked.candidate.site, ranked.candidate.point
    return {
        "route": site.route.value,
        "split": split_of(candidate),
        "cut": site.cut,
        "name": site.name,
        "macs_share": site.macs_share,
        "codec": None if point is None else point.codec,
        "config": None if point is None else point.config,
        "latency_p50_ms": candidate.p50.total_ms,
        "latency_p95_ms": candidate.p95.total_ms,
        "latency_mean_ms": candidate.mean_ms,
        "stages_p50": _stages(candidate.p50),
        "stages_p95": _stages(candidate.p95),
        "bytes_mean": candidate.bytes_mean,
        "bytes_p95": candidate.bytes_p95,
        "cost_per_1000": candidate.cost_per_1000,
        "quality": candidate.quality.model_dump(),
        "leakage": None if candidate.leakage is None else candidate.leakage.model_dump(),
        "score": ranked.score,
        "admissible": ranked.admissible,
        "misses": [asdict(miss) for miss in ranked.misses],
    }


def _stages(stages: Stages) -> dict[str, float]:
    return stages._asdict()


def _figures(ranked: Ranked) -> str:
    stages, candidate = ranked.candidate.p50, ranked.candidate
    return f"{stages.total_ms:.1f} ms, p95 {candidate.p95.total_ms:.1f} ms, ${candidate.cost_per_1000:.4f} for 1,000"


def _whole(value: int | None) -> str:
    return "-" if value is None else str(value)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
