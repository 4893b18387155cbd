"""The processes that `fuzz` decodes in, so that a crash ends one of them and a hang can be ended."""

from __future__ import annotations

import bisect
import ctypes
import itertools
import signal
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.fuzz_payloads import Pool, payload
from benchmarks.fuzz_subjects import Subject
from schemas.errors import DecodeError

HANG_S: Final = 1.0
"""A decode that takes longer, on the clock on the wall, has hung."""
TRACED_EVERY: Final = 50
STARTING, DONE = -1, -2
"""Places of a child that has not begun, and of one that has decoded all."""
_MOST_WORDS = 3
"""Tracebacks of one child for each subject."""
COUNTED: Final = ("payloads", "arrays", "refused", "others", "crashes", "hangs", "traced", "total_ns")
HIGHEST: Final = ("slowest_ns", "peak_bytes")
_COLUMNS: Final = (*COUNTED, *HIGHEST)
_HEAD: Final = 3


class Job(NamedTuple):
    """Which payloads one child decodes: those at first, first + step and so on, of all subjects' in a row."""

    open_subjects: Callable[[], list[Subject]]
    pools: Sequence[Pool]
    counts: Sequence[int]
    seed: int
    first: int
    step: int

    def at(self, place: int) -> tuple[int, bytes]:
        """The number of the subject at that place, and the payload."""
        ends = list(itertools.accumulate(self.counts))
        number = bisect.bisect_right(ends, place)
        index = place - ends[number] + self.counts[number]
        return number, payload(self.pools[number], f"{self.seed} {number}", index, self.counts[number])


class Board:
    """What a child and its parent share: where the child is, and its tally; it outlives the child."""

    def __init__(self, cells: ctypes.Array[ctypes.c_longlong]) -> None:
        whole: NDArray[np.int64] = np.frombuffer(memoryview(cells), np.int64)
        self._head = whole[:_HEAD]
        self.tally = whole[_HEAD:].reshape(-1, len(_COLUMNS))
        """int64[subjects, columns]"""

    @staticmethod
    def cells(subjects: int) -> int:
        """How many 64-bit cells it takes."""
        return _HEAD + subjects * len(_COLUMNS)

    @property
    def place(self) -> int:
        """The payload that is being decoded, `STARTING` or `DONE`."""
        return int(self._head[0])

    @place.setter
    def place(self, value: int) -> None:
        self._head[0] = value

    @property
    def growth(self) -> tuple[int, int]:
        """How far resident memory, and its peak, are above that after warm-up, bytes; of the last child that ended."""
        return int(self._head[1]), int(self._head[2])

    @growth.setter
    def growth(self, value: tuple[int, int]) -> None:
        self._head[1:] = value

    def add(self, number: int, column: str, value: int = 1) -> None:
        """Count for the subject; of times and peaks the highest stays."""
        cell = number, _COLUMNS.index(column)
        self.tally[cell] = max(self.tally[cell], value) if column in HIGHEST else self.tally[cell] + value


def together(boards: Sequence[Board]) -> list[dict[str, int]]:
    """The tally of all children by subject."""
    every = np.stack([board.tally for board in boards])
    whole = np.where([name in HIGHEST for name in _COLUMNS], every.max(axis=0), every.sum(axis=0))
    return [dict(zip(_COLUMNS, row, strict=True)) for row in whole.tolist()]


def decode_all(job: Job, cells: Any, words: Connection) -> None:
    """The child: decode every valid payload, then the job's. Says in `words` what was raised beside DecodeError."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    board, subjects = Board(cells), job.open_subjects()
    decoder = _Decoder(subjects, board, words)
    decoder.warm_up(job.pools)
    before, _ = _resident()
    for place in range(job.first, sum(job.counts), job.step):
        number, data = job.at(place)
        board.place = place
        decoder.take(number, data, traced=place // job.step % TRACED_EVERY == 0)
    now, peak = _resident()
    board.growth = max(0, now - before), max(0, peak - before)
    board.place = DONE


class _Decoder(NamedTuple):
    """Decodes one payload after the other and writes down what came of it."""

    subjects: Sequence[Subject]
    board: Board
    words: Connection

    def warm_up(self, pools: Sequence[Pool]) -> None:
        """Load what is loaded on use, then trace it. Raises what decoding raises: these payloads are valid."""
        for number, pool in enumerate(pools):
            for data in pool.own:
                self._decode(number, data)
                self._traced(number, data)

    def take(self, number: int, data: bytes, *, traced: bool) -> None:
        """Decode a payload of the subject of that number."""
        try:
            (self._traced if traced else self._timed)(number, data)
            self.board.add(number, "arrays")
        except DecodeError:
            self.board.add(number, "refused")
        except Exception:  # noqa: BLE001 - what must not come out of a decoder is what is looked for
            self.board.add(number, "others")
            if self.board.tally[number, _COLUMNS.index("others")] <= _MOST_WORDS:
                self.words.send((self.board.place, traceback.format_exc()))
        self.board.add(number, "payloads")
        self.board.add(number, "traced", int(traced))

    def _decode(self, number: int, data: bytes) -> None:
        subject = self.subjects[number]
        subject.spec.check(subject.codec.decode(data))

    def _timed(self, number: int, data: bytes) -> None:
        begun = time.perf_counter_ns()
        try:
            self._decode(number, data)
        finally:
            took = time.perf_counter_ns() - begun
            self.board.add(number, "slowest_ns", took)
            self.board.add(number, "total_ns", took)
            self.board.add(number, "hangs", int(took > HANG_S * 1e9))

    def _traced(self, number: int, data: bytes) -> None:
        """Without times: tracing makes it slower."""
        tracemalloc.start()
        try:
            self._decode(number, data)
        finally:
            self.board.add(number, "peak_bytes", tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()


def _resident() -> tuple[int, int]:
    """Resident memory of this process and its peak, bytes. Linux: proc(5), VmRSS and VmHWM."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    sizes = {line.split()[0]: 1024 * int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return sizes["VmRSS:"], sizes["VmHWM:"]
