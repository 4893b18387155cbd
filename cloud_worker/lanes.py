"""What waits in the batcher: one lane a key, each in order of deadline. Pure data, no clock and no waiting."""

from __future__ import annotations

import asyncio
import itertools
from bisect import insort
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_arrivals = itertools.count()


@dataclass(slots=True, eq=False)
class Entry(Generic[Item, Result]):
    """One submission; times are by the batcher's clock, in seconds."""

    item: Item
    key: Hashable
    weight: int
    deadline: float
    arrived: float
    future: asyncio.Future[Result]
    waiting: bool = False
    _number: int = field(default_factory=lambda: next(_arrivals))

    @property
    def rank(self) -> tuple[float, int]:
        """Earlier deadline first; at the same deadline, earlier arrival."""
        return self.deadline, self._number

    def company_until(self, max_delay_s: float) -> float:
        """How long it waits for a fuller batch: never more than half of its time to the deadline."""
        return self.arrived + max(0.0, min(max_delay_s, (self.deadline - self.arrived) / 2))


class Lanes(Generic[Item, Result]):
    """The waiting entries; at most a few lanes, since a key is a part of a model."""

    def __init__(self, max_batch: int, max_delay_s: float) -> None:
        self._max_batch, self._max_delay_s = max_batch, max_delay_s
        self._lanes: dict[Hashable, list[Entry[Item, Result]]] = {}
        self._count = 0
        self.weight = 0
        """Weight of all that waits."""

    def __len__(self) -> int:
        return self._count

    def add(self, entry: Entry[Item, Result]) -> None:
        """Put an entry where its deadline belongs."""
        insort(self._lanes.setdefault(entry.key, []), entry, key=lambda each: each.rank)
        entry.waiting = True
        self._count += 1
        self.weight += entry.weight

    def discard(self, entry: Entry[Item, Result]) -> bool:
        """Take out one entry; False when it is not here, or no more."""
        if not entry.waiting:
            return False
        self._lanes[entry.key].remove(entry)
        self._forget([entry])
        return True

    def take(self, now: float, *, hurry: bool = False) -> list[Entry[Item, Result]]:
        """The next batch, out of the lane with the earliest deadline of those that are ready; empty when none is.

        `hurry` makes every lane ready: nobody else will come.
        """
        ready = [lane for lane in self._lanes.values() if hurry or self._ready(lane, now)]
        if not ready:
            return []
        lane = min(ready, key=lambda each: each[0].rank)
        sums = itertools.accumulate(entry.weight for entry in lane)
        fitting = sum(1 for _ in itertools.takewhile(lambda total: total <= self._max_batch, sums))
        batch = lane[: max(1, fitting)]
        del lane[: len(batch)]
        self._forget(batch)
        return batch

    def take_expired(self, now: float) -> list[Entry[Item, Result]]:
        """Every entry whose deadline is not after `now`."""
        expired = []
        for lane in list(self._lanes.values()):
            late = sum(1 for _ in itertools.takewhile(lambda entry: entry.deadline <= now, lane))
            expired += lane[:late]
            del lane[:late]
        self._forget(expired)
        return expired

    def due(self) -> float:
        """When the first lane becomes ready without further entries; there must be one."""
        return min(self._due(lane) for lane in self._lanes.values())

    def clear(self) -> list[Entry[Item, Result]]:
        """Take out everything."""
        everything = [entry for lane in self._lanes.values() for entry in lane]
        for lane in self._lanes.values():
            lane.clear()
        self._forget(everything)
        return everything

    def _due(self, lane: list[Entry[Item, Result]]) -> float:
        return min(entry.company_until(self._max_delay_s) for entry in lane)

    def _ready(self, lane: list[Entry[Item, Result]], now: float) -> bool:
        greedy = self._max_delay_s == 0
        return greedy or sum(entry.weight for entry in lane) >= self._max_batch or self._due(lane) <= now

    def _forget(self, entries: list[Entry[Item, Result]]) -> None:
        """Account for entries that were taken out of their lanes."""
        self._count -= len(entries)
        self.weight -= sum(entry.weight for entry in entries)
        for entry in entries:
            entry.waiting = False
        for key in {entry.key for entry in entries}:
            if not self._lanes[key]:
                del self._lanes[key]
