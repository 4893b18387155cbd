"""Dynamic micro-batching: what arrives while a batch runs forms the next one.

Nothing here knows MQTT or torch: items and results are the caller's.

- **Batches**: items of one batch share a key and weigh at most `max_batch` together; an item that is heavier runs
  alone. One batch runs at a time.
- **Order**: earliest deadline first. Of the keys that are ready, the one with the earliest deadline runs, and no
  item is left behind by a batch of its key that took a later deadline.
- **Waiting**: an idle runner starts a batch at once when it is full, or when `max_delay_s` have passed since its
  *first* item arrived, or when half of any item's time to its deadline has. With 0, the default, it is greedy.
- **Ends**: each submission ends exactly once: with its result, with what the runner raised, or with one of the
  errors below. Nothing polls: without work no timer runs, and none is left when `serve` has ended.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from cloud_worker.lanes import Entry, Lanes
from schemas.errors import SplitbusError

Item = TypeVar("Item")
Result = TypeVar("Result")


class OverloadedError(SplitbusError):
    """The queue is full; the item was not taken."""


class ExpiredError(SplitbusError):
    """The item's deadline passed before its batch began; it was not run."""


class ClosedError(SplitbusError):
    """The batcher takes no more, or was ended before the item's batch began."""


@dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """A result, and how it came about."""

    result: Result
    queued_s: float
    """From the submission to the start of its batch, seconds."""
    batch: int
    """Weight of the whole batch, samples."""


@dataclass(frozen=True, slots=True)
class BatcherStatistics:
    """State of this moment, and counters since the start; weights are samples."""

    queued: int
    """Items that wait."""
    queued_samples: int
    running: int
    """Items in the batch that runs."""
    batches: int
    samples: int
    shed: int
    """Items whose deadline passed while they waited."""
    refused: int
    """Items that came to a full queue."""
    sizes: Mapping[int, int]
    """How many batches there were of each weight."""
    last_progress: float
    """By the batcher's clock: when a batch last ended, or work came to an idle batcher."""


class Batcher(Generic[Item, Result]):
    """See the module. `serve` runs the batches; its owner runs it as a task.

    `run` gets a batch's items, earliest deadline first, and gives one result or exception for each, in order;
    when it raises, exactly that batch's items fail with what it raised. `max_queue` bounds the samples that
    wait; `clock` gives seconds, as does every deadline.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_batch: int = 16,
        max_delay_s: float = 0.0,
        max_queue: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._clock = run, clock
        self._max_queue = max_queue
        self._lanes: Lanes[Item, Finished[Result]] = Lanes(max_batch, max_delay_s)
        self._running: list[Entry[Item, Finished[Result]]] = []
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._accepting = True
        self._shed = self._refused = 0
        self._sizes: Counter[int] = Counter()
        self._progress = clock()

    async def submit(self, item: Item, key: Hashable, weight: int, deadline: float) -> Finished[Result]:
        """The item's result. Cancelling takes a waiting item out of the queue.

        Raises OverloadedError at once when the queue is full, ExpiredError when the deadline passed first,
        ClosedError after `drain` or `close`, and whatever the runner gave for the item.
        """
        now = self._clock()
        self._admit(weight, now)
        entry: Entry[Item, Finished[Result]] = Entry(
            item, key, weight, deadline, now, asyncio.get_running_loop().create_future()
        )
        if self._idle.is_set():
            self._progress = now
            self._idle.clear()
        self._lanes.add(entry)
        self._changed.set()
        try:
            return await entry.future
        finally:
            if self._lanes.discard(entry):
                self._changed.set()
            if entry.future.done() and not entry.future.cancelled():
                entry.future.exception()  # seen, also when the submitter was cancelled in this very moment

    async def serve(self) -> None:
        """Run batches until `drain` has emptied the queue or `close` was called.

        Cancelling fails all that is left with ClosedError.
        """
        try:
            while self._accepting or self._lanes:
                self._shed_expired(self._clock())
                batch = self._lanes.take(self._clock(), hurry=not self._accepting)
                if batch:
                    await self._run_batch(batch)
                elif not self._lanes:
                    self._idle.set()
                    await self._wait(None)
                else:
                    await self._wait(self._lanes.due())
        finally:
            self.close()
            self._idle.set()

    async def drain(self) -> None:
        """Refuse new work from now on, and return when all that was taken has ended; needs `serve` running.

        What waits does so no longer for company: the batches follow each other at once.
        """
        self._accepting = False
        self._changed.set()
        await self._idle.wait()

    def close(self) -> None:
        """Refuse new work, and fail what waits with ClosedError; a batch that runs is finished."""
        self._accepting = False
        for entry in self._lanes.clear():
            _fail(entry, ClosedError("the worker ended before the batch began; send the frame again"))
        self._changed.set()

    def statistics(self) -> BatcherStatistics:
        """How the queue fares."""
        return BatcherStatistics(
            queued=len(self._lanes),
            queued_samples=self._lanes.weight,
            running=len(self._running),
            batches=self._sizes.total(),
            samples=sum(size * count for size, count in self._sizes.items()),
            shed=self._shed,
            refused=self._refused,
            sizes=dict(self._sizes),
            last_progress=self._progress,
        )

    def _admit(self, weight: int, now: float) -> None:
        """Raise when an item cannot be taken; into an empty queue it can, whatever its weight."""
        if not self._accepting:
            msg = "the worker is ending and takes no more work; send the frame again"
            raise ClosedError(msg)
        if self._lanes.weight + weight > self._max_queue:
            self._shed_expired(now)
        waiting = self._lanes.weight
        if waiting and waiting + weight > self._max_queue:
            self._refused += 1
            msg = f"{waiting} samples wait and the bound is {self._max_queue}; send less, or add workers"
            raise OverloadedError(msg)

    def _shed_expired(self, now: float) -> None:
        for entry in self._lanes.take_expired(now):
            self._shed += 1
            late_ms = (now - entry.deadline) * 1000
            msg = f"the deadline passed {late_ms:.0f} ms before a batch was free; allow more time, or add workers"
            _fail(entry, ExpiredError(msg))

    async def _run_batch(self, batch: list[Entry[Item, Finished[Result]]]) -> None:
        started = self._clock()
        self._running = batch
        weight = sum(entry.weight for entry in batch)
        try:
            results = await self._run([entry.item for entry in batch])
            for entry, result in zip(batch, results, strict=True):
                _end(entry, result, started, weight)
        except Exception as error:  # noqa: BLE001  whatever a batch raises is its submitters' to handle
            for entry in batch:
                _fail(entry, error)
        finally:
            for entry in batch:
                _fail(entry, ClosedError("the worker ended while the batch ran; send the frame again"))
            self._running = []
            self._sizes[weight] += 1
            self._progress = self._clock()

    async def _wait(self, due: float | None) -> None:
        """Until something changes, or the clock is at `due`."""
        self._changed.clear()
        delay = None if due is None else max(0.0, due - self._clock())
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._changed.wait()


def _end(entry: Entry[Item, Finished[Result]], result: Result | Exception, started: float, batch: int) -> None:
    if isinstance(result, Exception):
        _fail(entry, result)
    elif not entry.future.done():
        entry.future.set_result(Finished(result, started - entry.arrived, batch))


def _fail(entry: Entry[Item, Finished[Result]], error: Exception) -> None:
    """Give up an item, unless it has ended already, or its submitter has gone."""
    if not entry.future.done():
        entry.future.set_exception(error)
