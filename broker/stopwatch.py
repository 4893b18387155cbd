"""How long a call takes, by an honest clock: the processor time of the process, warmed up, in batches."""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

AT_LEAST_S: Final = 0.25
AT_LEAST_BATCHES: Final = 25
_BATCH_S: Final = 2e-4
_P95: Final = 0.95
_LONGEST_NAME: Final = 80
_MODEL_FILES: Final = (Path("/proc/device-tree/model"), Path("/sys/firmware/devicetree/base/model"))

Clock = Callable[[], float]


class Timing(NamedTuple):
    """Median and 95th percentile for one call, milliseconds."""

    p50_ms: float
    p95_ms: float


def timing(
    call: Callable[..., object],
    arguments: Sequence[Any] = (),
    *,
    at_least_s: float = AT_LEAST_S,
    clock: Clock = time.process_time,
) -> Timing:
    """Of batches that take a quarter of a second together, 25 at least; `arguments` are taken in turn.

    A batch takes at least 0.2 ms, so that reading the clock does not count; finding its size warms the call up. Of
    calls shorter than that, the 95th percentile is that of a batch's mean. Processor time is all threads': nothing
    else may run in the process, and what other processes do matters less than it would on the wall's clock.
    """
    every: list[tuple[Any, ...]] = [(each,) for each in arguments]
    items = itertools.cycle(every or [()])
    size = 1
    _batch_s(call, items, size, clock)
    while _batch_s(call, items, size, clock) < _BATCH_S:
        size *= 2
    taken: list[float] = []
    ends = time.perf_counter() + at_least_s
    while len(taken) < AT_LEAST_BATCHES or time.perf_counter() < ends:
        taken.append(_batch_s(call, items, size, clock) / size)
    taken.sort()
    return Timing(_quantile(taken, 0.5) * 1e3, _quantile(taken, _P95) * 1e3)


def _quantile(ascending: Sequence[float], share: float) -> float:
    """Between the two values about it."""
    place = share * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (place - below) * (ascending[above] - ascending[below])


def _batch_s(call: Callable[..., object], items: Iterator[tuple[Any, ...]], size: int, clock: Clock) -> float:
    batch = list(itertools.islice(items, size))
    started = clock()
    for item in batch:
        call(*item)
    return clock() - started


def device_name() -> str:
    """What this machine is called: its board, else its processor, else its architecture; printable, at most 80."""
    name = next((text for text in map(_board, _MODEL_FILES) if text), "") or _processor() or platform.machine()
    shown = "".join(char if char.isprintable() else " " for char in name)
    return " ".join(shown.split())[:_LONGEST_NAME].strip() or "unknown"


def _board(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "")
