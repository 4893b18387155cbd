"""Requests of real nodes through a shaped link to real workers, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from benchmarks.children import ChildFailedError, child_process, node_argv, worker_argv
from benchmarks.regret_bundles import Written
from benchmarks.report import Quantiles
from benchmarks.shaper import LinkProfile, Shaper
from broker.engines import RunningBroker

_WARM_UP: Final = 4
_STAGES: Final = ("preprocess", "head", "encode", "cloud_wait", "cloud_queue", "cloud_compute")
_DEADLINE_MS: Final = 20_000


class Trial(NamedTuple):
    """What runs."""

    broker: RunningBroker
    written: Mapping[str, Written]
    images: Path
    requests: int
    """Of each candidate, link and round, beyond those that warm it up."""


class Measured(NamedTuple):
    """One candidate over one link: from the sample to the answer, milliseconds."""

    p50: float
    """The median of the rounds' medians."""
    p95: float
    """Of all requests."""
    rounds: list[float]
    """Each round's median."""
    stages: dict[str, float]
    """Medians of what the node and the worker say of a request's parts."""


async def measure_all(
    trial: Trial, wanted: Mapping[str, tuple[LinkProfile, tuple[str, ...]]], rounds: int
) -> dict[str, dict[str, Measured]]:
    """Candidates by link: every candidate that was written once a round, so that a slow minute meets them all.

    Raises ChildFailedError for a process that fails, and for a request that was not answered where it should be.
    """
    found: dict[str, dict[str, list[list[dict[str, Any]]]]] = {name: {} for name in wanted}
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(
                child_process(f"worker {n}", worker_argv(trial.broker.url, f"w{n}", bundle=written.folder))
            )
            for n, written in enumerate(trial.written.values())
        ]
        for worker in workers:
            await worker.ready()
        for _ in range(rounds):
            for name, (link, keys) in wanted.items():
                for key in filter(trial.written.__contains__, keys):
                    found[name].setdefault(key, []).append(await _outcomes(trial, key, link))
    return {name: {key: _summed(each) for key, each in of_link.items()} for name, of_link in found.items()}


async def _outcomes(trial: Trial, key: str, link: LinkProfile) -> list[dict[str, Any]]:
    written = trial.written[key]
    count = ("--count", str(trial.requests + _WARM_UP), "--repeat", "--deadline-ms", str(_DEADLINE_MS))
    options = ("--source", str(trial.images), "--route", written.route, *count)
    async with Shaper(trial.broker.host, trial.broker.port, link) as shaper:
        argv = node_argv(shaper.url, "node", *options, bundle=written.folder)
        async with child_process("node", argv) as node:
            outcomes = [outcome async for outcome in node.lines()]
    wanted = "edge" if written.route == "edge" else "cloud"
    missed = [outcome for outcome in outcomes if outcome["source"] != wanted]
    if missed:
        msg = f"{len(missed)} of {len(outcomes)} requests of {key} had no answer of the {wanted}: {missed[0]['reason']}"
        raise ChildFailedError(msg)
    return outcomes[_WARM_UP:]


def _summed(rounds: list[list[dict[str, Any]]]) -> Measured:
    times = [[outcome["times_ms"] for outcome in each] for each in rounds]
    every = [each for of_round in times for each in of_round]
    medians = [median(each["total"] for each in of_round) for of_round in times]
    stages = {f"{name}_ms": median(each[name] for each in every) for name in _STAGES}
    return Measured(median(medians), Quantiles.of([each["total"] for each in every]).p95, medians, stages)
