"""Whether certified thresholds keep their promise: how often the true selective error is over alpha; what it costs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.children import BUNDLE
from benchmarks.populations import Drawn, Fashion, Population, Truth, real_images, synthetic
from benchmarks.report import Report, Target
from cloud_worker.build.certify import GRID, STARTS, certify, plain_threshold
from schemas.bundle_files import open_bundle
from schemas.errors import CannotCertifyError

ALPHAS = (0.02, 0.05)
_QUICK_RESAMPLES = 40


class Promise(NamedTuple):
    """At most alpha of the sure answers wrong, with probability 1 - delta."""

    alpha: float
    delta: float


Method = Callable[[Drawn, Promise], float | None]
"""From calibration samples to a threshold, or None when the exit may never answer by itself."""


def certified(drawn: Drawn, promise: Promise, starts: Sequence[float] = STARTS) -> float | None:
    """Learn then Test."""
    try:
        return certify(*drawn, promise.alpha, promise.delta, starts=starts).threshold
    except CannotCertifyError:
        return None


METHODS: dict[str, Method] = {
    "certified": certified,
    "certified, one start": lambda drawn, promise: certified(drawn, promise, STARTS[:1]),
    "plain": lambda drawn, promise: plain_threshold(*drawn, promise.alpha),
}


def trial(
    population: Population, promise: Promise, resamples: int, samples: int, seed: Sequence[int]
) -> list[dict[str, Any]]:
    """One row a method; all methods see the same draws."""
    truths = {threshold: population.truth(threshold) for threshold in GRID}
    rng, found = np.random.default_rng(seed), {name: list[Truth | None]() for name in METHODS}
    for _ in range(resamples):
        drawn = population.draw(rng, samples)
        for name, method in METHODS.items():
            threshold = method(drawn, promise)
            found[name].append(None if threshold is None else truths[threshold])
    common = {"population": population.name, "mode": population.mode, "alpha": promise.alpha}
    best = max((truth.coverage for truth in truths.values() if truth.risk <= promise.alpha), default=0.0)
    return [
        {**common, "method": name, **_summary(each, promise), "most_coverage": best} for name, each in found.items()
    ]


def _summary(found: list[Truth | None], promise: Promise) -> dict[str, float]:
    """Shares over all resamples; one without a threshold covers nothing and does not fail."""
    answered = [truth for truth in found if truth is not None]
    return {
        "failed": sum(truth.risk > promise.alpha for truth in answered) / len(found),
        "answered": len(answered) / len(found),
        "coverage": sum(truth.coverage for truth in answered) / len(found),
        "risk": float(np.mean([truth.risk for truth in answered])) if answered else 0.0,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many draws of how many samples, from which images."""
    parser.add_argument("--resamples", type=_count, default=1000)
    parser.add_argument("--samples", type=_count, default=2000, help="calibration samples in each draw (default: 2000)")
    parser.add_argument("--delta", type=_chance, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--data", type=Path, metavar="DIR", help="the IDX files, where they are not installed")
    parser.add_argument("--quick", action="store_true", help="few draws and images, no targets: does it all run?")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        msg = f"{text} is not at least 1"
        raise argparse.ArgumentTypeError(msg)
    return value


def _chance(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        msg = f"{text} is not between 0 and 1"
        raise argparse.ArgumentTypeError(msg)
    return value


async def run(options: argparse.Namespace) -> Report:
    """Known risks, then the real exit; its images pass through head and tail once."""
    bundle = open_bundle(options.bundle)
    part = real_images(options.data, quick=options.quick)
    sys.stderr.write(f"running head and tail over {len(part.images)} images\n")
    fashion = Fashion(bundle, part)
    report = Report("certificate", rows=[fashion.row()])
    resamples = min(options.resamples, _QUICK_RESAMPLES) if options.quick else options.resamples
    for place, alpha in enumerate(ALPHAS):
        populations: list[Population] = [*synthetic(alpha), *fashion.pools()]
        for index, population in enumerate(populations):
            seed = (options.seed, place, index)
            report.rows += trial(population, Promise(alpha, options.delta), resamples, options.samples, seed)
    report.targets = [] if options.quick else targets(report.rows, options.delta)
    report.notes = notes(options, resamples, len(part.images))
    return report


def notes(options: argparse.Namespace, resamples: int, images: int) -> list[str]:
    """What was drawn from what, and what the columns mean."""
    drawn = f"{resamples} draws of {options.samples} samples each, delta {options.delta:g}, seed {options.seed}"
    pool = f"fashion_mnist: drawn with replacement from {images} test images, the truth counted over all of them"
    return [
        f"{drawn}; failed: share of draws whose threshold has a true selective error over alpha",
        f"{pool}: the pool is the population; what other images would do is not claimed",
        "plain: the lowest threshold with at most alpha errors among the same samples",
        f"one start: the sequence of tests from {STARTS[0]:g} alone",
        "most_coverage: the most that any safe threshold of the grid covers, the truth known",
    ]


def targets(rows: list[dict[str, Any]], delta: float) -> list[Target]:
    """The promise: over alpha in at most delta of the draws, whatever the population."""
    return [
        Target(f"P(error > {row['alpha']:g}), {row['population']}, {row['mode']}", row["failed"], "<=", delta)
        for row in rows
        if row.get("method") == "certified"
    ]
