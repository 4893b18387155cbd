"""The entropy coder under `bottleneck` and `transform`: float32 values to levels to bytes, one call a tensor.

Levels are coded by rANS over static integer tables (`rans_python` says how), so that every machine makes the same
bytes of the same values: what is float is one IEEE single operation at a time, what is a probability is an integer.
`_rans`, compiled from C where a compiler was at hand, and `rans_python` make the same bytes and the same errors.

A payload is on average 2.6 bytes longer than the code length of its values: the coder starts from a 16-bit checksum
of them, a decoder must arrive at it with no byte left over, and the length is a whole number of bytes. Payloads that
an encoder with the same tables did not make, cut off, altered or random, are a DecodeError but for fewer than one in
2**16, which decodes to values that do encode to it. Values of which one is wrong never pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.codecs import rans_python
from schemas.codecs.entropy_tables import Quantiser, Table, check_all, check_array, normalise
from schemas.codecs.rans_python import PRECISION, TOTAL, Arrays, Bytes, IntArray
from schemas.errors import ConfigError
from schemas.tensor import MAX_ELEMENTS, FloatArray

__all__ = ["PRECISION", "TOTAL", "EntropyCoder", "Quantiser", "Table", "normalise"]

_MOST_TABLES = 1 << 16


class _Coder(Protocol):
    def encode(self, array: FloatArray, /) -> bytes: ...
    def encode_values(self, array: IntArray, /) -> bytes: ...
    def decode(self, payload: Bytes, /) -> FloatArray: ...
    def decode_values(self, payload: Bytes, /) -> IntArray: ...


class EntropyCoder:
    """Codes n values, each with its own table.

    `index` is uint16[n], in coding order; without a quantiser values are rounded to the nearest integer. Threads
    may share a coder. Raises ConfigError, naming field and value.
    """

    encode: Callable[[FloatArray], bytes]
    """float32 array of n values in C order, of any shape, to a payload. Raises TensorError for any other array."""
    decode: Callable[[Bytes], FloatArray]
    """Payload to float32[n]. Raises DecodeError after bounded time; allocates nothing but the n values."""
    encode_values: Callable[[IntArray], bytes]
    """As `encode`, for int32 levels that are there already; clipped to int16."""
    decode_values: Callable[[Bytes], IntArray]
    """As `decode`, for the levels themselves, as int32[n]."""

    def __init__(self, index: NDArray[np.uint16], tables: Sequence[Table], quantiser: Quantiser | None = None) -> None:
        _check(index, tables)
        self.count = len(index)
        self.max_payload = 4 * self.count + 4
        """No payload is longer, in bytes."""
        self.arrays = _flat(index, tables, quantiser or Quantiser.rounding(self.count))
        """What it is made from; leave them as they are."""
        coder = _backend()(*self.arrays)
        self.compiled = not isinstance(coder, rans_python.Coder)
        """Whether this is the coder in C."""
        self.encode, self.decode = coder.encode, coder.decode
        self.encode_values, self.decode_values = coder.encode_values, coder.decode_values

    def cost_bits(self, values: IntArray) -> float:
        """Code length of int32[n] levels by the tables: what a payload would take but for its checksum, in bits."""
        levels = np.clip(values, -(1 << 15), (1 << 15) - 1)
        symbols, escaped = rans_python.symbols_of(self.arrays, levels)
        return float((PRECISION - np.log2(self.arrays.freqs[symbols])).sum()) + 16.0 * int(escaped.sum())


def _backend() -> Callable[..., _Coder]:
    if os.environ.get("SPLITBUS_PURE_PYTHON") == "1":
        return rans_python.Coder
    try:
        from schemas.codecs._rans import Coder  # noqa: PLC0415 - where it was compiled
    except ImportError:
        return rans_python.Coder
    return Coder


def _check(index: NDArray[np.uint16], tables: Sequence[Table]) -> None:
    check_array("index", index, np.uint16, (index.size,))
    if not 1 <= len(index) <= MAX_ELEMENTS or not 1 <= len(tables) <= _MOST_TABLES:
        msg = (
            f"entropy coder: {len(index)} values and {len(tables)} tables, at least 1 of both and at most 2**26, 2**16"
        )
        raise ConfigError(msg)
    check_all("index", index < len(tables), index, f"below {len(tables)}, the number of tables")


def _flat(index: NDArray[np.uint16], tables: Sequence[Table], quantiser: Quantiser) -> Arrays:
    check_array("inverse_step", quantiser.inverse_step, np.float32, (len(index),))
    arrays = Arrays(
        table_index=index,
        lows=np.array([table.low for table in tables], np.int32),
        sizes=np.array([table.freqs.size for table in tables], np.int32),
        freqs=np.concatenate([table.freqs for table in tables]),
        inverse_step=quantiser.inverse_step,
        offset=quantiser.offset,
        step=quantiser.step,
        shift=quantiser.shift,
    )
    return Arrays(*map(np.ascontiguousarray, arrays))
