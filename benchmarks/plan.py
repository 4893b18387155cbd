"""How long it takes to plan a stored profile again for another link."""

from __future__ import annotations

import argparse
import time

from benchmarks.profiles import random_profile
from benchmarks.report import Quantiles, Report, Target
from cloud_worker.build.measure.profile_file import parse_profile
from cloud_worker.build.plan.network import LINKS
from cloud_worker.build.plan.ranking import Constraints, Objective, plan
from schemas.policy import Prices

_SIZES = ((12, 3), (60, 6), (200, 10))
_MEANT = (60, 6)
_TARGET_MS = 10.0
_CONSTRAINTS = Constraints(max_latency_p95_ms=1e6, max_kl_nats=1.0, max_edge_macs_share=1.0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """How often."""
    parser.add_argument("--repeats", type=int, default=100, help="plans for each size of profile")


async def run(options: argparse.Namespace) -> Report:
    """Profiles of several sizes, over every link in turn with a little loss, with some constraints to check."""
    report = Report("plan")
    for cuts, points in _SIZES:
        took = _times_ms(cuts, points, options.repeats)
        planned = Quantiles.of(took)
        row = {"cuts": cuts, "points": points, "read_ms": _read_ms(cuts, points), **planned.fields("ms")}
        report.rows.append(row)
        if (cuts, points) == _MEANT:
            report.targets.append(Target(f"ms for {cuts} cuts of {points} points, p50", planned.p50, "<=", _TARGET_MS))
    report.notes = ["every candidate is priced, ranked and checked; read_ms is for parsing the file, once"]
    return report


def _times_ms(cuts: int, points: int, repeats: int) -> list[float]:
    profile = random_profile(1, cuts, points)
    links = [link.model_copy(update={"loss": 0.01}) for link in LINKS.values()]
    took = []
    for repeat in range(repeats):
        begun = time.perf_counter()
        plan(profile, links[repeat % len(links)], Prices(), Objective(), _CONSTRAINTS)
        took.append((time.perf_counter() - begun) * 1000)
    return took


def _read_ms(cuts: int, points: int) -> float:
    data = random_profile(1, cuts, points).model_dump_json().encode()
    begun = time.perf_counter()
    parse_profile(data)
    return (time.perf_counter() - begun) * 1000
