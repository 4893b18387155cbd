"""The entropy coder in Python: what `_rans.c` does where nobody could compile it, and the description of both.

rANS (asymmetric numeral systems, Duda, arXiv:1311.2540) over static tables, one state, bytes in and out.
A symbol with frequency f and start s, both out of `TOTAL`, takes the state x to `x // f * TOTAL + s + x % f`, which
is larger by a factor of TOTAL / f; before that would pass 32 bits the lowest byte is given away. Coding runs from
the last value to the first, so that decoding runs forward and stops at the first byte that is missing.

A payload is the state after the first value without its leading zero bytes, then the bytes given away, last one
first. The state before the last value is `_START` plus a checksum of all values, and there a decoder must arrive
with no byte left.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any, Final, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from schemas.errors import DecodeError, TensorError
from schemas.tensor import Array, FloatArray

PRECISION: Final = 15
TOTAL: Final = 1 << PRECISION
"""What the frequencies of a table sum to."""
_LOWER: Final = 1 << 24
_START: Final = 1 << 16
_SPARE: Final = 4
_MIX: Final = 40503
_TOP: Final = np.float32(32767)
_FORMATS: Final = {"float32": {"f", "=f"}, "int32": {"i", "=i", "l", "=l"}}
_ITEM: Final = 4

Bytes = bytes | bytearray | memoryview
IntArray = NDArray[np.int32]


class Arrays(NamedTuple):
    """All that a coder of n values over some tables is made from, flat, in the order of its arguments."""

    table_index: Array
    """uint16[n]: table of each value."""
    lows: Array
    """int32[tables]: value of the first symbol of each."""
    sizes: Array
    """int32[tables]: symbols of each, the escape as the last one included."""
    freqs: Array
    """uint16[sum of sizes]: of all tables, one after the other."""
    inverse_step: Array
    """float32[n]"""
    offset: Array
    """float32[n]"""
    step: Array
    """float32[n]"""
    shift: Array
    """float32[n]"""


def symbols_of(given: Arrays, levels: IntArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where in `freqs` each level's symbol is, and whether it is an escape. Levels are int16 values in int32[n]."""
    tables = given.table_index
    escapes = given.sizes[tables].astype(np.uint32) - 1
    numbers = np.minimum((levels - given.lows[tables]).astype(np.uint32), escapes)
    return (np.cumsum(given.sizes) - given.sizes)[tables] + numbers, numbers == escapes


class _Table(NamedTuple):
    low: int
    escape: int
    starts: list[int]
    freqs: list[int]


class _Source:
    """State of a decoder and what is left of the payload."""

    def __init__(self, data: bytes) -> None:
        self.state = 0
        self.left = bytearray(reversed(data))
        self.refill()

    def refill(self) -> None:
        while self.state < _LOWER and self.left:
            self.state = self.state << 8 | self.left.pop()

    def symbol(self, table: _Table) -> int:
        slot = self.state & (TOTAL - 1)
        number = bisect_right(table.starts, slot) - 1
        self.state = table.freqs[number] * (self.state >> PRECISION) + slot - table.starts[number]
        if self.state < _LOWER:
            self.refill()
        return number

    def byte(self) -> int:
        value = self.state & 255
        self.state >>= 8
        self.refill()
        return value

    def spoil(self) -> None:
        """Make sure that this ends in an error."""
        self.state = 0
        self.left.clear()


class Coder:
    """`_rans.Coder` with the same arguments, bytes and errors, 40 to 130 times slower. Made by `EntropyCoder`."""

    def __init__(self, *arrays: Array) -> None:
        given = Arrays(*map(np.array, arrays))
        self._given = given
        self._count = given.table_index.size
        parts = np.split(given.freqs, np.cumsum(given.sizes)[:-1])
        self._tables = [_table(int(low), part.tolist()) for low, part in zip(given.lows, parts, strict=True)]
        self._starts = np.array([start for table in self._tables for start in table.starts], np.int64)
        self._mix = ((2 * np.arange(self._count) + 1) * _MIX).astype(np.uint16)

    def encode(self, array: FloatArray) -> bytes:
        """float32[n] to bytes. Raises TensorError."""
        values = self._read(array, "float32")
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            scaled = values * self._given.inverse_step
            size = np.abs(scaled) + self._given.offset
        level = np.where(np.isnan(scaled), np.float32(0), np.fmin(size, _TOP)).astype(np.int32)
        return self._put(np.where(scaled < 0, -level, level))

    def encode_values(self, array: IntArray) -> bytes:
        """int32[n] to bytes, clipped to int16. Raises TensorError."""
        return self._put(np.clip(self._read(array, "int32"), -32768, 32767))

    def decode(self, payload: Bytes) -> FloatArray:
        """Bytes to float32[n]. Raises DecodeError."""
        level = self._take(payload).astype(np.float32)
        values: FloatArray = (level + np.sign(level) * self._given.shift) * self._given.step
        return values

    def decode_values(self, payload: Bytes) -> IntArray:
        """Bytes to int32[n]. Raises DecodeError."""
        return self._take(payload)

    def _read(self, array: Any, dtype: Literal["float32", "int32"]) -> Array:
        try:
            view = memoryview(array)
        except (TypeError, BufferError):
            view = memoryview(b"")
        shape = view.itemsize, view.nbytes, view.c_contiguous
        if shape != (_ITEM, _ITEM * self._count, True) or view.format not in _FORMATS[dtype]:
            msg = f"the entropy coder takes {self._count} values of {dtype} in C order; convert the array first"
            raise TensorError(msg)
        return np.frombuffer(view, dtype)

    def _put(self, levels: IntArray) -> bytes:
        symbols, escaped = symbols_of(self._given, levels)
        codes = np.where(escaped, (levels << 1 ^ levels >> 31) & 0xFFFF, -1)
        out = _Sink(_START + self._checksum(levels))
        for start, freq, code in zip(
            self._starts[symbols[::-1]].tolist(),
            self._given.freqs[symbols[::-1]].tolist(),
            codes[::-1].tolist(),
            strict=True,
        ):
            if code >= 0:
                out.put(code >> 8, 1, 8)
                out.put(code & 255, 1, 8)
            out.put(start, freq, PRECISION)
        return out.payload()

    def _take(self, payload: Bytes) -> IntArray:
        data = memoryview(payload)
        if data.nbytes > 4 * self._count + _SPARE or (data.nbytes and data.tobytes()[0] == 0):
            self._refuse(data.nbytes, self._count)
        source = _Source(data.tobytes())
        levels = self._levels(source)
        if len(levels) < self._count:
            self._refuse(data.nbytes, len(levels))
        found = np.array(levels, np.int32)
        if source.left or source.state != _START + self._checksum(found):
            self._refuse(data.nbytes, self._count)
        return found

    def _levels(self, source: _Source) -> list[int]:
        """All levels, or fewer when the payload ran dry."""
        levels: list[int] = []
        for index in self._given.table_index.tolist():
            if source.state < _START:
                break
            table = self._tables[index]
            number = source.symbol(table)
            levels.append(table.low + number if number < table.escape else _escaped(source, table))
        return levels

    def _checksum(self, levels: IntArray) -> int:
        return int((levels.astype(np.uint16) * self._mix).sum(dtype=np.uint64)) & 0xFFFF

    def _refuse(self, length: int, held: int) -> NoReturn:
        count = self._count
        msg = (
            f"the payload of {length} bytes ends before value {held + 1} of {count}; it is cut off or of other tables"
            if held < count
            else f"the payload of {length} bytes does not end in the checksum of its {count} values; "
            "it is damaged or of other tables"
        )
        raise DecodeError(msg)


class _Sink:
    """State of an encoder and the bytes it gave away, first one first."""

    def __init__(self, state: int) -> None:
        self._state = state
        self._given = bytearray()

    def put(self, start: int, freq: int, precision: int) -> None:
        while self._state >= freq << (32 - precision):
            self._give()
        self._state = (self._state // freq << precision) + start + self._state % freq

    def payload(self) -> bytes:
        while self._state:
            self._give()
        return bytes(reversed(self._given))

    def _give(self) -> None:
        self._given.append(self._state & 255)
        self._state >>= 8


def _table(low: int, freqs: list[int]) -> _Table:
    return _Table(low, len(freqs) - 1, list(accumulate(freqs, initial=0))[:-1], freqs)


def _escaped(source: _Source, table: _Table) -> int:
    """The level behind an escape. One that has a symbol of its own ends in an error."""
    code = source.byte() | source.byte() << 8
    level = -(code >> 1) - 1 if code & 1 else code >> 1
    if 0 <= level - table.low < table.escape:
        source.spoil()
    return level
