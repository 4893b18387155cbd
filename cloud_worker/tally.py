"""What a worker counts, and how it tells: one record for logs, Stats and tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

from cloud_worker.batcher import BatcherStatistics
from schemas.messages import Stats, Status

Count = Literal[
    "frames",
    "samples",
    "answered",
    "joined",
    "cached",
    "unanswerable",
    "replies_lost",
    "foreign_response_topic",
    "dead_letters",
    "dead_letters_suppressed",
    "defects",
    "stuck",
]
_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Tally:
    """Counters since the start; every one of them is always present."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._compute_s = self._busy_mark_s = self._time_mark = 0.0

    def add(self, what: Count, count: int = 1) -> None:
        """Count something."""
        self._counts[what] += count

    def refuse(self, status: Status) -> None:
        """Count a refusal."""
        self._counts[f"refused_{status.name.lower()}"] += 1

    def computed(self, seconds: float) -> None:
        """Count time that a tail computed."""
        self._compute_s += seconds

    def counters(self) -> dict[str, int]:
        """Every counter by name."""
        names = (*get_args(Count), *(f"refused_{each.name.lower()}" for each in Status if each is not Status.OK))
        return {**{name: self._counts[name] for name in names}, "compute_ms": round(self._compute_s * 1000)}

    def stats(self, id_: str, uptime_s: float, batcher: BatcherStatistics) -> Stats:
        """What goes out on the stats topic; `busy` is the share of the time since the last call that was computing."""
        elapsed = uptime_s - self._time_mark
        busy = min(1.0, (self._compute_s - self._busy_mark_s) / elapsed) if elapsed > 0 else 0.0
        self._time_mark, self._busy_mark_s = uptime_s, self._compute_s
        gauges = {
            "queued": float(batcher.queued),
            "queued_samples": float(batcher.queued_samples),
            "running": float(batcher.running),
            "busy": busy,
        }
        counters = {**self.counters(), "batches": batcher.batches, **_histogram(batcher.sizes)}
        return Stats(kind="worker", id=id_, uptime_s=max(0.0, uptime_s), counters=counters, gauges=gauges)


def _histogram(sizes: Mapping[int, int]) -> dict[str, int]:
    """Batches by size, cumulative, as `batch_le_N`; the difference to `batches` is what is larger."""
    return {f"batch_le_{top}": sum(count for size, count in sizes.items() if size <= top) for top in _BUCKETS}
