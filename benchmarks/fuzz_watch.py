"""Starts the children of `fuzz`, counts those that crash or hang, and goes on behind the payload that did it."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any, Final, NamedTuple

from benchmarks.children import ChildFailedError
from benchmarks.fuzz_children import DONE, HANG_S, STARTING, Board, Job, decode_all

_SPAWN: Final = multiprocessing.get_context("spawn")
_LOOK_S: Final = 0.05
_START_LIMIT_S: Final = 120.0
_MOST_DEATHS: Final = 20
"""Of one child's successors, after which the rest of its payloads is given up."""


class Failure(NamedTuple):
    """What must not happen, and the payload that did it."""

    number: int
    """Of the subject."""
    fact: str
    payload: bytes

    def __str__(self) -> str:
        return f"{self.fact}; payload: {self.payload.hex()}"


class Watch:
    """One child and those that follow it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._cells: Any = _SPAWN.RawArray("q", Board.cells(len(job.counts)))
        self.board = Board(self._cells)
        self.failures: list[Failure] = []
        self._deaths = 0
        self._start(job.first)

    def _start(self, first: int) -> None:
        self.board.place = STARTING
        self._seen, self._since = STARTING, time.monotonic()
        self._words, theirs = _SPAWN.Pipe(duplex=False)
        job = self._job._replace(first=first)
        self._process = _SPAWN.Process(target=decode_all, args=(job, self._cells, theirs), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def sentinel(self) -> int:
        """Ready when the child has ended."""
        return self._process.sentinel

    def goes_on(self) -> bool:
        """Look after the child once; whether there is more to wait for.

        Raises ChildFailedError when it ends, or nothing happens, before its first payload.
        """
        ended = not self._process.is_alive()
        place = self.board.place
        self._listen()
        if ended:
            return self._ended(place)
        if place != self._seen:
            self._seen, self._since = place, time.monotonic()
            return True
        limit = _START_LIMIT_S if place in {STARTING, DONE} else HANG_S
        if time.monotonic() - self._since <= limit:
            return True
        self.end()
        return self._lost(place, "hangs", f"no end after {limit:g} s")

    def _ended(self, place: int) -> bool:
        code = self._process.exitcode
        if place == DONE and code == 0:
            return False
        return self._lost(place, "crashes", f"the process ended with code {code}")

    def _lost(self, place: int, column: str, fact: str) -> bool:
        """Count it and start the next child behind it; False when none is left to start.

        What happens after the last payload is counted as the last one's.
        """
        if place == STARTING:
            msg = f"a decoding process: {fact} before its first payload; its last words are above"
            raise ChildFailedError(msg)
        if place == DONE:
            place = sum(self._job.counts) - 1
        number, _ = self._job.at(place)
        self.board.add(number, column)
        self.board.add(number, "payloads")
        self._remember(place, fact)
        self._deaths += 1
        following = place + self._job.step
        if following >= sum(self._job.counts) or self._deaths >= _MOST_DEATHS:
            return False
        self._start(following)
        return True

    def _listen(self) -> None:
        try:
            while self._words.poll():
                self._remember(*self._words.recv())
        except (EOFError, OSError):
            return

    def _remember(self, place: int, fact: str) -> None:
        number, data = self._job.at(place)
        self.failures.append(Failure(number, fact.strip(), data))

    def end(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.join()


@contextmanager
def watches(jobs: Sequence[Job]) -> Iterator[list[Watch]]:
    """A child for each job; they are ended with the context."""
    started: list[Watch] = []
    try:
        started.extend(Watch(job) for job in jobs)
        yield started
    finally:
        for watch in started:
            watch.end()


def watch_over(jobs: Sequence[Job]) -> list[Watch]:
    """Run them to their ends."""
    with watches(jobs) as started:
        left = started
        while left:
            connection.wait([watch.sentinel for watch in left], timeout=_LOOK_S)
            left = [watch for watch in left if watch.goes_on()]
        return started
