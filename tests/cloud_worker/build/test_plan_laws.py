"""The planner's laws, for random profiles, links, weights and constraints; and the same answer as brute force."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.profiles import random_profile
from cloud_worker.build.measure.profile_file import CodingPoint, Quality, SplitProfile, Spread
from cloud_worker.build.plan.candidates import Candidate, Pricing
from cloud_worker.build.plan.network import Link
from cloud_worker.build.plan.ranking import Constraints, Objective, Plan, plan
from schemas.errors import ConfigError, PlanError
from schemas.policy import Prices, Route

PROFILES = 1000
SLACK = 1e-9

Key = tuple[int | None, int]
"""Cut and operating point."""


def some_link(draw: random.Random) -> Link:
    return Link(
        rtt_ms=draw.uniform(0, 200),
        up_mbit_s=10 ** draw.uniform(-1, 3),
        down_mbit_s=10 ** draw.uniform(-1, 3),
        loss=draw.choice([0, 0, draw.uniform(0, 0.3)]),
    )


def some_objective(draw: random.Random) -> Objective:
    names = ("latency", "cost", "bytes", "quality", "edge_macs")
    return Objective(**{name: draw.choice([0, draw.uniform(0, 3)]) for name in names[1:]}, latency=draw.uniform(0.1, 2))


def some_constraints(draw: random.Random) -> Constraints:
    limits = {
        "max_latency_p95_ms": draw.uniform(50, 1500),
        "max_bytes_p95": draw.uniform(500, 40_000),
        "max_frame_bytes": draw.uniform(500, 65_536),
        "max_cost_per_1000": draw.uniform(0.05, 3),
        "max_kl_nats": draw.uniform(0, 0.3),
        "min_accuracy": draw.uniform(0.8, 0.9),
        "max_edge_macs_share": draw.uniform(0, 1),
        "max_edge_ms_p95": draw.uniform(5, 300),
        "max_ssim": draw.uniform(0, 1),
    }
    return Constraints(**{name: limit for name, limit in limits.items() if draw.random() < 0.25})


def lost_ms(link: Link, frame: float, quantile: float | None) -> float:
    """Delay by losses among the frame's segments and the reply's one, at a quantile or, with None, on average."""
    segments = math.ceil(frame / 1460) + 1
    within = [(1 - link.loss ** (rounds + 1)) ** segments for rounds in range(15)]
    timeout = link.rtt_ms + 200
    if quantile is None:
        return timeout * sum(2.0**rounds * (1 - share) for rounds, share in enumerate(within))
    rounds = next((rounds for rounds, share in enumerate(within) if share >= quantile), 15)
    return timeout * (2.0**rounds - 1)


def ways(profile: SplitProfile) -> Iterator[tuple[Key, Spread, float, Spread, CodingPoint | None, Quality]]:
    """Every candidate: key, head, share of the work, tail, coding, quality."""
    nothing = Spread(p50=0, p95=0)
    for place, point in enumerate(profile.cloud_only.points):
        yield (0, place), nothing, 0, profile.cloud_only.cloud_ms, point, point.quality
    for cut in profile.cuts:
        for place, point in enumerate(cut.points):
            yield (cut.index, place), cut.edge_ms, cut.macs_share, cut.cloud_ms, point, point.quality
    yield (None, 0), profile.edge_only.edge_ms, 1, nothing, None, profile.edge_only.quality


def brute_force(
    profile: SplitProfile, link: Link, objective: Objective, limits: Constraints
) -> dict[Key, tuple[float, bool]]:
    """Score and admissibility of every candidate, by the formulas as they are documented."""
    found = {}
    for key, head, share, tail, point, quality in ways(profile):
        p50, p95, mean, usual, most, cost, ssim = head.p50, head.p95, head.p50, 0.0, 0.0, 0.0, 0.0
        if point is not None:
            usual, most = point.bytes_mean + 71, point.bytes_p95 + 71
            coding, down = point.encode_ms + point.decode_ms, link.rtt_ms / 2 + 42 * 8 / link.down_mbit_s / 1000
            bare = head.p50 + coding + link.rtt_ms / 2 + usual * 8 / link.up_mbit_s / 1000 + tail.p50 + down
            mean = bare + lost_ms(link, usual, None)
            p95 = head.p95 + coding + link.rtt_ms / 2 + most * 8 / link.up_mbit_s / 1000 + tail.p95 + down
            p95 += lost_ms(link, most, 0.95)
            dollars = (tail.p50 + point.decode_ms) / 3.6e6 + (usual + 42) / 1e7 + 2e-6
            p50, cost = bare + lost_ms(link, usual, 0.5), 1000 * dollars
            unmeasured = math.nan if key[0] else 1.0
            ssim = point.leakage.ssim if point.leakage and point.leakage.ssim is not None else unmeasured
            usual, most = usual + 42, most + 42
        kl, accuracy, encode = quality.kl_nats or 0, quality.accuracy or 0, point.encode_ms if point else 0
        score = objective.latency * mean / 100 + objective.cost * cost / 0.1 + objective.bytes * usual / 1000
        score += objective.quality * kl / 0.1 + objective.edge_macs * share
        kept = [
            limits.max_latency_p95_ms is None or p95 <= limits.max_latency_p95_ms,
            limits.max_bytes_p95 is None or most <= limits.max_bytes_p95,
            limits.max_frame_bytes is None or most - 42 <= limits.max_frame_bytes,
            limits.max_cost_per_1000 is None or cost <= limits.max_cost_per_1000,
            limits.max_kl_nats is None or kl <= limits.max_kl_nats,
            limits.min_accuracy is None or accuracy >= limits.min_accuracy,
            limits.max_edge_macs_share is None or share <= limits.max_edge_macs_share,
            limits.max_edge_ms_p95 is None or head.p95 + encode <= limits.max_edge_ms_p95,
            limits.max_ssim is None or ssim <= limits.max_ssim,
        ]
        assert p50 >= 0
        found[key] = (score, all(kept))
    return found


def key_of(candidate: Candidate) -> Key:
    level = 0 if candidate.point is None else candidate.point.config["level"]
    assert isinstance(level, int)
    return candidate.site.cut, level


def planned(profile: SplitProfile, link: Link, objective: Objective, constraints: Constraints) -> Plan | None:
    try:
        return plan(profile, link, Prices(), objective, constraints)
    except PlanError:
        return None


def test_it_chooses_as_brute_force_does() -> None:
    draw, answered = random.Random(11), 0
    for seed in range(PROFILES):
        profile = random_profile(seed, cuts=draw.randint(0, 4), points=draw.randint(1, 3))
        link, objective, constraints = some_link(draw), some_objective(draw), some_constraints(draw)
        expected = brute_force(profile, link, objective, constraints)
        kept = {key for key, (_, admissible) in expected.items() if admissible}
        if constraints.max_ssim is not None and not profile.has_ssim:
            with pytest.raises(ConfigError, match="leakage was not measured"):
                planned(profile, link, objective, constraints)
            continue
        made = planned(profile, link, objective, constraints)
        assert (made is None) == (not kept)
        if made is None:
            continue
        answered += 1
        ranked = {key_of(each.candidate): (each.score, each.admissible) for each in made.ranked}
        assert ranked.keys() == expected.keys()
        assert {key for key, (_, admissible) in ranked.items() if admissible} == kept
        assert all(ranked[key][0] == pytest.approx(expected[key][0], rel=1e-9) for key in ranked)
        assert key_of(made.best.candidate) == min(kept, key=lambda key: expected[key][0])
        order = [(not each.admissible, each.score) for each in made.ranked]
        assert order == sorted(order)
        assert {Route.CLOUD_ONLY, Route.EDGE_ONLY} <= {each.candidate.site.route for each in made.ranked}
    assert PROFILES / 4 < answered < PROFILES, "both answers and refusals are wanted"


def slower(draw: random.Random, link: Link) -> Link:
    """Worse, or the same, in every respect."""
    return Link(
        rtt_ms=link.rtt_ms + draw.choice([0, draw.uniform(0, 100)]),
        up_mbit_s=link.up_mbit_s * draw.choice([1, draw.uniform(0.1, 1)]),
        down_mbit_s=link.down_mbit_s * draw.choice([1, draw.uniform(0.1, 1)]),
        loss=min(0.5, link.loss + draw.choice([0, draw.uniform(0, 0.2)])),
    )


def times(profile: SplitProfile, link: Link) -> list[tuple[float, float, float]]:
    candidates = Pricing(link, Prices()).candidates(profile)
    return [(each.p50.total_ms, each.p95.total_ms, each.mean_ms) for each in candidates]


@pytest.mark.parametrize("seed", range(100))
def test_a_slower_or_lossier_link_makes_nothing_faster_and_the_best_no_better(seed: int) -> None:
    draw, profile = random.Random(seed), random_profile(seed, cuts=3, points=3)
    link, objective, constraints = some_link(draw), some_objective(draw), some_constraints(draw)
    worse = slower(draw, link)
    for before, after in zip(times(profile, link), times(profile, worse), strict=True):
        assert all(late >= early - SLACK for early, late in zip(before, after, strict=True))
    best, less = planned(profile, link, objective, constraints), planned(profile, worse, objective, constraints)
    assert less is None or (best is not None and less.best.score >= best.best.score - SLACK)


@pytest.mark.parametrize("seed", range(100))
def test_a_stricter_constraint_never_gives_a_better_score(seed: int) -> None:
    draw, profile = random.Random(seed), random_profile(seed, cuts=3, points=3)
    link, objective, constraints = some_link(draw), some_objective(draw), some_constraints(draw)
    kept, name = constraints.model_dump(exclude_none=True), draw.choice(sorted(Constraints.model_fields))
    drawn: dict[str, Any] = Constraints.model_validate({name: draw.uniform(0, 1)}).model_dump()
    looser = kept.get(name)
    limit = drawn[name] if looser is None else looser * (1.1 if name.startswith("min_") else 0.5)
    stricter = constraints.model_copy(update={name: limit})
    wide, narrow = planned(profile, link, objective, constraints), planned(profile, link, objective, stricter)
    assert narrow is None or (wide is not None and narrow.best.score >= wide.best.score)


@pytest.mark.parametrize("seed", range(50))
def test_a_candidate_s_score_depends_on_no_other_candidate(seed: int) -> None:
    draw, profile = random.Random(seed), random_profile(seed, cuts=4, points=2)
    link, objective = some_link(draw), some_objective(draw)
    fewer = profile.model_copy(update={"cuts": profile.cuts[::2]})
    scores = [
        {key_of(each.candidate): each.score for each in plan(each_of, link, Prices(), objective).ranked}
        for each_of in (profile, fewer)
    ]
    assert scores[1].items() <= scores[0].items()


@pytest.mark.parametrize("seed", range(50))
def test_what_is_said_to_be_nearest_is_admitted_when_its_misses_are_forgiven(seed: int) -> None:
    draw, profile = random.Random(seed), random_profile(seed, cuts=3, points=3)
    link = some_link(draw)
    strict = Constraints(max_latency_p95_ms=draw.uniform(1, 10), max_kl_nats=draw.uniform(0, 0.2))
    with pytest.raises(PlanError) as caught:
        plan(profile, link, Prices(), Objective(), strict)
    error = caught.value
    assert error.value is not None
    assert error.value > error.limit
    forgiven = strict.model_copy(update={miss.split()[0]: None for miss in error.misses})
    admitted = plan(profile, link, Prices(), Objective(), forgiven).ranked
    assert error.candidate in {str(each.candidate) for each in admitted if each.admissible}


@pytest.mark.parametrize("seed", range(3))
def test_preprocessing_is_paid_once_where_the_model_begins_and_a_request_where_something_is_sent(seed: int) -> None:
    bare, link = random_profile(seed, 4, 3), Link(rtt_ms=20, up_mbit_s=5, down_mbit_s=5)
    more = bare.model_copy(update={"preprocess_ms": 3.0, "request_ms": 1.5})
    pairs = zip(*(Pricing(link, Prices()).candidates(each) for each in (bare, more)), strict=True)
    for before, after in pairs:
        in_cloud, sent = after.site.route is Route.CLOUD_ONLY, after.point is not None
        for one, other in ((before.p50, after.p50), (before.p95, after.p95)):
            assert other.cloud_ms - one.cloud_ms == pytest.approx(3.0 if in_cloud else 0.0)
            assert other.edge_ms - one.edge_ms == pytest.approx(0.0 if in_cloud else 3.0)
            assert other.up_ms - one.up_ms == pytest.approx(1.5 if sent else 0.0)
            assert other.down_ms == one.down_ms
        assert after.mean_ms - before.mean_ms == pytest.approx(4.5 if sent else 3.0)
