"""Entropy coders to test with: random ones, golden ones, and each of them in C and in Python."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.codecs.entropy import EntropyCoder, Quantiser, Table, normalise
from tests.golden.store import Entry

HAS_C = importlib.util.find_spec("schemas.codecs._rans") is not None
_INT16 = st.integers(-32768, 32767)


@dataclass(frozen=True)
class Case:
    """What a coder is made from."""

    index: NDArray[np.uint16]
    tables: list[Table]
    quantiser: Quantiser

    def coder(self, *, pure: bool) -> EntropyCoder:
        """In Python, or in C where it is there."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SPLITBUS_PURE_PYTHON", "1" if pure else "0")
            coder = EntropyCoder(self.index, self.tables, self.quantiser)
        assert coder.compiled is (HAS_C and not pure)
        return coder

    def coders(self) -> list[EntropyCoder]:
        """One of each kind that there is."""
        return [self.coder(pure=pure) for pure in ([False, True] if HAS_C else [True])]


def table(low: int, *counts: int) -> Table:
    return Table(low, normalise(counts))


def single(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


@st.composite
def cases(draw: st.DrawFn, most: int = 40) -> Case:
    count = draw(st.integers(1, most))
    tables = draw(st.lists(_tables(), min_size=1, max_size=4))
    index = np.array(draw(st.lists(st.integers(0, len(tables) - 1), min_size=count, max_size=count)), np.uint16)
    return Case(index, tables, draw(_quantisers(count)))


@st.composite
def _tables(draw: st.DrawFn) -> Table:
    counts = draw(st.lists(st.integers(0, 1 << draw(st.integers(0, 40))), min_size=2, max_size=12))
    return table(draw(st.integers(-32768, 32769 - len(counts)) | st.integers(-8, 2)), counts[0] + 1, *counts[1:])


@st.composite
def _quantisers(draw: st.DrawFn, count: int) -> Quantiser:
    def array(strategy: st.SearchStrategy[float]) -> NDArray[np.float32]:
        return single(*draw(st.lists(strategy, min_size=count, max_size=count)))

    steps = st.floats(2.0**-60, 2.0**60, width=32)
    step = array(steps)
    inverse_step = 1 / step if draw(st.booleans()) else array(steps)
    return Quantiser(
        inverse_step, array(st.floats(0, 1, width=32, exclude_max=True)), step, array(st.floats(-0.75, 0.75, width=32))
    )


def levels(count: int) -> st.SearchStrategy[NDArray[np.int32]]:
    """int32[count]: mostly small, some beyond every table and some beyond int16."""
    value = st.integers(-6, 6) | _INT16 | st.integers(-(1 << 31), (1 << 31) - 1)
    return st.lists(value, min_size=count, max_size=count).map(lambda row: np.array(row, np.int32))


def values(count: int) -> st.SearchStrategy[NDArray[np.float32]]:
    """float32[count], NaN and infinity included."""
    value = st.floats(-4, 4, width=32) | st.floats(width=32)
    return st.lists(value, min_size=count, max_size=count).map(lambda row: single(*row))


def _golden(count: int, tables: list[Table]) -> Case:
    index = (np.arange(count) % len(tables)).astype(np.uint16)
    step = (0.25 + np.arange(count) % 7 / 8).astype(np.float32)
    offset, shift = np.full(count, 0.375, np.float32), np.full(count, 0.125, np.float32)
    return Case(index, tables, Quantiser(1 / step, offset, step, shift))


_PLAIN = [table(-3, 1, 5, 20, 100, 20, 5, 1, 1), table(-1, 10, 30, 10, 2), table(0, 1, 1, 1)]
_SKEWED = [table(-1, 30, 32700, 30, 1)]

GOLDEN: dict[str, tuple[Case, NDArray[np.float32]]] = {
    "entropy_plain": (_golden(48, _PLAIN), single(*(((i * i) % 37 - 18) / 10 for i in range(48)))),
    "entropy_escapes": (_golden(7, _PLAIN), single(0, 900, -1e9, np.inf, np.nan, 3, -4.75)),
    "entropy_skewed": (_golden(500, _SKEWED), single(*(float(i % 97 == 5) - float(i % 211 == 8) for i in range(500)))),
    "entropy_nothing": (_golden(3, _SKEWED), single(0, 0, 0)),
}
"""Coder and what it coded, by golden file."""


def golden_entry(case: Case, decoded: NDArray[np.float32]) -> Entry:
    names = ("inverse_step", "offset", "step", "shift")
    return {
        "entropy": {
            "index": _hex(case.index),
            "tables": [[each.low, _hex(each.freqs)] for each in case.tables],
            "quantiser": {name: _hex(getattr(case.quantiser, name)) for name in names},
        },
        "decodes_to": _hex(decoded),
    }


def golden_case(entry: Entry) -> tuple[Case, bytes]:
    """The coder that a golden file was made with, and what it decodes to, as little-endian float32."""
    told: dict[str, Any] = entry["entropy"]
    quantiser = Quantiser(**{name: _array(text, "<f4") for name, text in told["quantiser"].items()})
    tables = [Table(low, _array(freqs, "<u2")) for low, freqs in told["tables"]]
    return Case(_array(told["index"], "<u2"), tables, quantiser), bytes.fromhex(entry["decodes_to"])


def _hex(array: NDArray[Any]) -> str:
    return array.astype(array.dtype.newbyteorder("<")).tobytes().hex()


def _array(text: str, dtype: str) -> NDArray[Any]:
    stored = np.frombuffer(bytes.fromhex(text), dtype)
    return stored.astype(stored.dtype.newbyteorder("="))
