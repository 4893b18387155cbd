"""Why the coder's constants are what they are: bytes of the same levels with others, by a coder that only counts."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.codecs.entropy import normalise
from schemas.tensor import FloatArray

PRECISIONS = (12, 13, 14, 15)
_CHECKSUMS = 1 << 16


@dataclass(frozen=True, slots=True)
class Counted:
    """How often each level from `low` on was seen, ESCAPE's count last."""

    low: int
    counts: list[int]


@dataclass(frozen=True, slots=True)
class Constants:
    """Bits of a frequency, and of the least state in the middle of a payload and at its end."""

    precision: int
    lower: int
    start: int

    @property
    def label(self) -> str:
        """As in a table."""
        return f"rANS of {self.precision} bits, state from 2**{self.lower}, first state from 2**{self.start}"


CHOICES = [
    Constants(precision, lower, start)
    for precision, (lower, start) in itertools.product(PRECISIONS, ((16, 16), (24, 24), (24, 16)))
]


def rows(
    index: NDArray[np.uint16], tables: Sequence[Counted], tensors: Sequence[FloatArray]
) -> Iterator[dict[str, Any]]:
    """Mean bytes of the tensors for every choice of constants, as rows of a report."""
    for chosen in CHOICES:
        freqs = [normalise(table.counts, 1 << chosen.precision).tolist() for table in tables]
        sizes = [
            length(chosen, _intervals(index, tables, freqs, tensor), number * 7919 % _CHECKSUMS)
            for number, tensor in enumerate(tensors)
        ]
        yield {"values": index.size, "coder": chosen.label, "bytes": statistics.fmean(sizes)}


def length(chosen: Constants, intervals: Sequence[tuple[int, int, int]], checksum: int) -> int:
    """Bytes of a payload whose symbols have these (start, frequency, precision)."""
    state, given_away = (1 << chosen.start) + checksum, 0
    for start, freq, precision in reversed(intervals):
        limit = freq << (chosen.lower + 8 - precision)
        while state >= limit:
            state >>= 8
            given_away += 1
        state = (state // freq << precision) + start + state % freq
    return given_away + -(-state.bit_length() // 8)


def _intervals(
    index: NDArray[np.uint16], tables: Sequence[Counted], freqs: list[list[int]], tensor: FloatArray
) -> list[tuple[int, int, int]]:
    starts = [list(itertools.accumulate(row, initial=0)) for row in freqs]
    found: list[tuple[int, int, int]] = []
    precision = starts[0][-1].bit_length() - 1
    for which, level in zip(index.tolist(), tensor.astype(int).tolist(), strict=True):
        number, escape = level - tables[which].low, len(freqs[which]) - 1
        known = 0 <= number < escape
        number = number if known else escape
        found.append((starts[which][number], freqs[which][number], precision))
        found += [] if known else [(0, 1, 8), (0, 1, 8)]
    return found
