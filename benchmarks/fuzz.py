"""A million damaged payloads through every codec: each is an array or a DecodeError, in bounded time and memory.

Rows say the mix: a share of all payloads for each codec configuration; of those, the first cut a valid payload off,
at every place when there is room, and the rest are the kinds of `fuzz_payloads` in turn.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from benchmarks.fuzz_children import HANG_S, TRACED_EVERY, Job, together
from benchmarks.fuzz_payloads import KINDS, LONGEST_NOISE, Pool, truncations
from benchmarks.fuzz_subjects import Subject, open_subjects, pools, smooth_tensors
from benchmarks.fuzz_watch import Watch, watch_over
from benchmarks.report import Report, Target
from cloud_worker.build.codecs.fit_transform import fit
from schemas.codecs.tables import pack_tables
from schemas.errors import ConfigError

_WORKERS: Final = 2
_FREE_KIB: Final = {False: 64, True: 128}
"""By whether it is an image file, which Pillow reads in pieces of 64 KiB."""
_MOST_TENSORS: Final = 4
"""A decode may allocate this many tensors of the spec, and `_FREE_KIB`."""
_MOST_GROWTH_MB: Final = 32
_FIT_SAMPLES, _FIT_DRAWS = 12, 2
_MOST_FAILURES: Final = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many, drawn with what."""
    parser.add_argument("--payloads", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)


async def run(options: argparse.Namespace) -> Report:
    """Make the valid payloads, decode the others in two processes, and count. Raises ConfigError for no payloads."""
    if options.payloads < 1:
        msg = f"--payloads is {options.payloads}; give 1 or more"
        raise ConfigError(msg)
    begun = time.monotonic()
    opened = functools.partial(open_subjects, photo_tables(options.seed))
    subjects = opened()
    made, counts = pools(subjects, options.seed), shared_out([each.share for each in subjects], options.payloads)
    jobs = [Job(opened, made, counts, options.seed, first, _WORKERS) for first in range(_WORKERS)]
    watched = watch_over(jobs)
    report = Report("fuzz", rows(subjects, made, counts, watched))
    report.targets = targets(report.rows, [watch.board.growth for watch in watched], options.payloads)
    report.notes = _notes(options.seed, time.monotonic() - begun)
    failures = [failure for watch in watched for failure in watch.failures]
    report.notes += [f"{subjects[each.number].name}: {each}" for each in failures[:_MOST_FAILURES]]
    return report


def photo_tables(seed: int) -> bytes:
    """A file of tables for codec transform, fitted to tensors that are drawn: where they come from is all the same."""
    rng = np.random.default_rng([seed, 1])
    tensors = torch.from_numpy(smooth_tensors(rng, _FIT_SAMPLES))
    felt = torch.from_numpy(rng.normal(size=(_FIT_SAMPLES, _FIT_DRAWS, *tensors.shape[1:])).astype(np.float32))
    return pack_tables(fit(tensors, felt))


def shared_out(shares: Sequence[int], payloads: int) -> list[int]:
    """As many payloads in all, in proportion to the shares."""
    ends = np.cumsum(shares) * payloads // sum(shares)
    counts: list[int] = np.diff(ends, prepend=0).tolist()
    return counts


def rows(
    subjects: Sequence[Subject], made: Sequence[Pool], counts: Sequence[int], watched: Sequence[Watch]
) -> list[dict[str, Any]]:
    """One of each codec configuration."""
    tallies = together([watch.board for watch in watched])
    return [_row(*each) for each in zip(subjects, made, counts, tallies, strict=True)]


def _row(subject: Subject, pool: Pool, count: int, tally: dict[str, int]) -> dict[str, Any]:
    timed = tally["payloads"] - tally["traced"]
    return {
        "codec": subject.name,
        "image": subject.is_image,
        "payloads": tally["payloads"],
        "cut_off_at": f"{truncations(pool, count)} of {len(pool.own[0])} places",
        **{name: tally[name] for name in ("arrays", "refused", "crashes", "hangs", "others")},
        "mean_us": tally["total_ns"] / max(1, timed) / 1e3,
        "slowest_ms": tally["slowest_ns"] / 1e6,
        "traced": tally["traced"],
        "peak_bytes": tally["peak_bytes"],
        "peak_tensors": tally["peak_bytes"] / subject.spec.nbytes,
        "over_tensors": max(0, tally["peak_bytes"] - 1024 * _FREE_KIB[subject.is_image]) / subject.spec.nbytes,
    }


def targets(found: Sequence[dict[str, Any]], growth: Sequence[tuple[int, int]], payloads: int) -> list[Target]:
    """The acceptance figures; `growth` is that of each child's resident memory and of its peak, bytes."""

    def over(*, image: bool) -> Target:
        most = max((row["over_tensors"] for row in found if row["image"] == image), default=0.0)
        name = f"tensors allocated beyond {_FREE_KIB[image]} KiB, {'input' if image else 'tensor codecs'}"
        return Target(name, most, "<=", _MOST_TENSORS)

    return [
        Target("payloads", sum(row["payloads"] for row in found), ">=", payloads),
        Target("crashes", sum(row["crashes"] for row in found), "==", 0),
        Target("hangs", sum(row["hangs"] for row in found), "==", 0),
        Target("exceptions other than DecodeError", sum(row["others"] for row in found), "==", 0),
        over(image=False),
        over(image=True),
        Target("RSS of a process, MB above warm", max(now for now, _ in growth) / 1e6, "<=", _MOST_GROWTH_MB),
        Target("peak RSS of a process, MB above warm", max(peak for _, peak in growth) / 1e6, "<=", _MOST_GROWTH_MB),
    ]


def _notes(seed: int, took_s: float) -> list[str]:
    return [
        f"seed {seed}; {took_s:.0f} s in {_WORKERS} processes; payloads after the cuts: {', '.join(KINDS)}, in turn",
        f"random bytes: 0 to {LONGEST_NOISE}, half of them as many as a valid payload has",
        f"a decode over {HANG_S:g} s on the wall clock is a hang, ended from outside; slowest_ms is on that clock too",
        f"peak_bytes: by tracemalloc, of every {TRACED_EVERY}th decode and of the valid payloads",
        f"over_tensors: that beyond {_FREE_KIB[False]} KiB, for input {_FREE_KIB[True]} KiB, as Pillow reads in pieces",
        "resident memory sees the C libraries as well; warm is after every valid payload was decoded once",
    ]
