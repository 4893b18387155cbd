"""What trusting the planner costs: the latency of its choice over that of the best candidate, both measured.

A model is profiled on this machine, its heads on the edge runtime, and planned for shaped links by latency alone, with
a bound on KL divergence. Then the best candidates run as real processes, each with a bundle and a worker of its own
beside one broker, and a node behind the shaped link: one request after the other, in alternating rounds. Two choices
are judged on each link: among all candidates, and with at most half the model's multiply-accumulates on the edge, since
on a machine that is edge and cloud at once the whole model on the edge wins by the whole round trip.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.children import BUNDLE
from benchmarks.regret_bundles import Written, write_bundle
from benchmarks.regret_runs import Measured, Trial, measure_all
from benchmarks.regret_subject import Profiled, profiled, subject
from benchmarks.report import Quantiles, Report, Target
from benchmarks.roundtrip import ours
from benchmarks.shaper import PROFILES, LinkProfile
from broker.engines import start_broker
from cloud_worker.build.measure.profile_file import SplitProfile
from cloud_worker.build.plan.candidates import Candidate
from cloud_worker.build.plan.network import Link
from cloud_worker.build.plan.ranking import Constraints, Objective, Plan, plan
from schemas.errors import BundleError
from schemas.policy import Prices, Route
from schemas.tensor import Array

_LINKS: Final = ("LAN", "DSL", "4G")
_TARGET: Final = 0.05
_BY_LATENCY: Final = Objective(latency=1, cost=0, quality=0)
_MOST_KL: Final = 0.1
_LIMITS: Final = {"any": 1.0, "half": 0.5}
"""Of the share of the multiply-accumulates on the edge."""
_PINGS: Final = 100
_PAUSE_S: Final = 0.02
"""As long as a link keeps both sides waiting; without it they answer from warm caches."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much."""
    parser.add_argument("--cuts", type=int, default=5, help="cuts that are profiled, at most")
    parser.add_argument("--candidates", type=int, default=3, help="cuts that are measured for each link, at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=30, help="for each candidate, link and round")
    parser.add_argument("--quick", action="store_true", help="a small net, one link, a few requests")


async def run(options: argparse.Namespace) -> Report:
    """Profile, plan, build, measure."""
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes share a few cores; NumPy takes them all
    if options.quick:
        options.cuts, options.candidates, options.rounds, options.requests = 2, 1, 1, 8
    links = {name: PROFILES[name] for name in (("DSL",) if options.quick else _LINKS)}
    limits = {"half": _LIMITS["half"]} if options.quick else _LIMITS
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        given = subject(quick=options.quick)
        found = profiled(given, folder / "heads", options.cuts, 0.02 if options.quick else 0.25, _say)
        async with start_broker("auto") as broker:
            profile = found.profile.model_copy(update={"request_ms": await request_ms(broker.url)})
            worth = {name: _worth_running(profile, link, limits, options.candidates) for name, link in links.items()}
            written = _written(found, worth, folder)
            trial = Trial(broker, written, _saved(given.held_out, folder), options.requests)
            measured = await measure_all(
                trial, {name: (links[name], tuple(worth[name])) for name in links}, options.rounds
            )
    return _report(profile, links, limits, worth, measured)


def _planned(profile: SplitProfile, link: LinkProfile, most_share: float) -> Plan:
    """By latency alone, for the link that the shaper emulates."""
    same = Link(rtt_ms=link.rtt_ms, up_mbit_s=link.up_mbit, down_mbit_s=link.down_mbit)
    return plan(profile, same, Prices(), _BY_LATENCY, Constraints(max_kl_nats=_MOST_KL, max_edge_macs_share=most_share))


def _worth_running(
    profile: SplitProfile, link: LinkProfile, limits: dict[str, float], count: int
) -> dict[str, Candidate]:
    """Under either limit the best point of so many cuts, and of all in the cloud and on the edge; best first."""
    found: dict[str, Candidate] = {}
    for most_share in limits.values():
        ranked = [each for each in _planned(profile, link, most_share).ranked if each.admissible]
        best: dict[int | None, Candidate] = {}
        for each in ranked:
            best.setdefault(each.candidate.site.cut, each.candidate)
        cut = [each for each in best.values() if each.site.route is Route.HYBRID_SPLIT][:count]
        found |= {str(each): each for each in best.values() if each in cut or each.site.cut in {0, None}}
    return found


def _written(found: Profiled, worth: dict[str, dict[str, Candidate]], folder: Path) -> dict[str, Written]:
    """A bundle for each candidate of any link; what cannot be one is left out and said."""
    written: dict[str, Written] = {}
    for key, candidate in {key: each for of_link in worth.values() for key, each in of_link.items()}.items():
        try:
            written[key] = write_bundle(found, candidate, folder / f"candidate-{len(written)}")
        except BundleError as error:
            _say(f"left out: {key}: {error}")
    return written


def _saved(images: Array, folder: Path) -> Path:
    np.save(folder / "images.npy", images)
    return folder / "images.npy"


async def request_ms(url: str) -> float:
    """What a request takes without a link and a model, each from idle: work of the node, the worker and the broker."""
    took = []
    async with ours(url, BUNDLE) as ping:
        for _ in range(_PINGS):
            await asyncio.sleep(_PAUSE_S)
            begun = time.perf_counter()
            await ping()
            took.append(1e3 * (time.perf_counter() - begun))
    return Quantiles.of(took[_PINGS // 5 :]).p50


def _report(
    profile: SplitProfile,
    links: dict[str, LinkProfile],
    limits: dict[str, float],
    worth: dict[str, dict[str, Candidate]],
    measured: dict[str, dict[str, Measured]],
) -> Report:
    report = Report("regret")
    for name, found in measured.items():
        report.rows += [_row(name, worth[name][key], each) for key, each in found.items()]
        for limit, most_share in limits.items():
            allowed = [key for key in found if worth[name][key].site.macs_share <= most_share]
            ranked = _planned(profile, links[name], most_share).ranked
            choice = next(str(each.candidate) for each in ranked if str(each.candidate) in allowed)
            best = min(allowed, key=lambda key: found[key].p50)
            regret = found[choice].p50 / found[best].p50 - 1
            report.targets.append(Target(f"{name}, {limit}: regret of {choice}, best {best}", regret, "<=", _TARGET))
    report.notes = [
        f"{profile.model}; edge {profile.edge.runtime}, cloud {profile.cloud.runtime}, one thread each",
        f"all on one machine of {os.cpu_count()} processors, at the end with a load of {os.getloadavg()[0]:.1f}",
        f"preprocessing {profile.preprocess_ms:.2f} ms, a request beyond its stages {profile.request_ms:.2f} ms",
        "predicted is processor time and the link's; measured is the clock's, which runs on while others compute",
        f"any: every candidate; half: at most half the MACs on the edge; KL at most {_MOST_KL:g} nats",
    ]
    return report


def _row(link: str, candidate: Candidate, measured: Measured) -> dict[str, Any]:
    return {
        "link": link,
        "candidate": str(candidate),
        "macs_share": candidate.site.macs_share,
        "bytes": candidate.bytes_mean,
        "predicted_p50_ms": candidate.p50.total_ms,
        "predicted_p95_ms": candidate.p95.total_ms,
        "measured_p50_ms": measured.p50,
        "measured_p95_ms": measured.p95,
        "rounds_p50_ms": measured.rounds,
        **{f"predicted_{name}": value for name, value in candidate.p50._asdict().items()},
        **{f"measured_{name}": value for name, value in measured.stages.items()},
    }


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
