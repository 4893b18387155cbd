"""What `benchmarks.entropy` compares with: rANS whose states, or lanes, are the items of NumPy arrays.

As Giesen's interleaved coders (arXiv:1402.3392), but every step is a dozen NumPy calls over all lanes. A lane takes
every n-th value, has a 32-bit state and gives 16 bits away at a time; each costs about 2 bytes for its last state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.codecs.entropy import PRECISION, TOTAL, Table
from schemas.tensor import FloatArray

_LOWER = np.uint64(1 << 16)
_WORD = np.uint64(16)
_BITS = np.uint64(PRECISION)
Integers = NDArray[Any]


def lanes_for(count: int) -> int:
    """A power of two near an eighth of the root: more are faster, but cost more bytes than they should."""
    return int(1 << max(0, round(math.log2(math.sqrt(count) / 8))))


class LaneCoder:
    """Levels by static tables, value i by table `index[i]`; ESCAPE's 16 bits stand at the end of the payload."""

    def __init__(self, index: Integers, tables: list[Table]) -> None:
        self._count, self._lanes = index.size, lanes_for(index.size)
        sizes = np.array([table.freqs.size for table in tables])
        self._first = np.cumsum(sizes) - sizes
        self._low, self._escape = np.array([table.low for table in tables]), sizes - 1
        self._freq = np.concatenate([table.freqs for table in tables]).astype(np.uint64)
        self._start = np.concatenate([np.cumsum(t.freqs) - t.freqs for t in tables]).astype(np.uint64)
        slots = [
            np.repeat(np.arange(t.freqs.size), t.freqs) + first for t, first in zip(tables, self._first, strict=True)
        ]
        self._symbol_of = np.concatenate(slots)
        self._table = np.zeros(-(-index.size // self._lanes) * self._lanes, np.int64)
        self._table[: index.size] = index
        self._rows = self._table.reshape(-1, self._lanes)

    def encode(self, values: FloatArray) -> bytes:
        """float32[n], each near an integer, to bytes."""
        levels = np.zeros(self._table.size, np.int64)
        levels[: self._count] = np.rint(values)
        numbers = levels - self._low[self._table]
        escaped = (numbers < 0) | (numbers >= self._escape[self._table])
        symbols = self._first[self._table] + np.where(escaped, self._escape[self._table], numbers)
        freqs = self._freq[symbols].reshape(self._rows.shape)
        starts = self._start[symbols].reshape(self._rows.shape)
        state, words = self._put(freqs, starts)
        parts = state.astype("<u4"), words.astype("<u2"), levels[escaped].astype("<i2")
        return b"".join(part.tobytes() for part in parts)

    def _put(self, freqs: Integers, starts: Integers) -> tuple[Integers, Integers]:
        state = np.full(self._lanes, _LOWER, np.uint64)
        limits, chunks = freqs << np.uint64(32 - PRECISION), []
        for row in range(len(freqs) - 1, -1, -1):
            full = state >= limits[row]
            chunks.append(state[full] & np.uint64(0xFFFF))
            state = np.where(full, state >> _WORD, state)
            quotient = state // freqs[row]
            state = (quotient << _BITS) + starts[row] + (state - quotient * freqs[row])
        return state, np.concatenate(chunks[::-1])

    def decode(self, payload: bytes) -> FloatArray:
        """Inverse of `encode`, for a payload that is whole."""
        state = np.frombuffer(payload, "<u4", self._lanes).astype(np.uint64)
        body = payload[4 * self._lanes :]
        words = np.frombuffer(body, "<u2", len(body) // 2).astype(np.uint64)
        symbols, read = np.empty(self._rows.shape, np.int64), 0
        for row, tables in enumerate(self._rows):
            slot = state & np.uint64(TOTAL - 1)
            found = self._symbol_of[(tables << PRECISION) + slot.astype(np.int64)]
            state = self._freq[found] * (state >> _BITS) + slot - self._start[found]
            low = state < _LOWER
            more = int(np.count_nonzero(low))
            if more:
                state[low] = (state[low] << _WORD) | words[read : read + more]
                read += more
            symbols[row] = found
        numbers = symbols.ravel() - self._first[self._table]
        levels = self._low[self._table] + numbers
        escaped = numbers == self._escape[self._table]
        levels[escaped] = words[read:].astype(np.uint16).view(np.int16)
        values: FloatArray = levels[: self._count].astype(np.float32)
        return values
