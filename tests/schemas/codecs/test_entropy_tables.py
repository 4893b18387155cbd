from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codecs.entropy import TOTAL, EntropyCoder, Quantiser, Table, normalise
from schemas.errors import ConfigError, DecodeError
from tests.schemas.codecs.entropy_cases import GOLDEN, HAS_C, Case, cases, single, table

counts = st.lists(st.integers(0, 1 << 50) | st.integers(0, 3), min_size=2, max_size=300).filter(any)
_TABLE = table(0, 3, 1)
_UNUSED = np.zeros(3, np.uint16)


def quantiser(**changed: Any) -> Quantiser:
    one = np.ones(3, np.float32)
    return Quantiser(**{"inverse_step": one, "offset": one / 2, "step": one, "shift": one * 0, **changed})


@given(counts)
def test_frequencies_sum_to_the_total_and_none_is_zero(row: list[int]) -> None:
    freqs = normalise(row)
    assert (freqs.dtype, int(freqs.sum()), len(freqs)) == (np.uint16, TOTAL, len(row))
    assert freqs.min() >= 1
    assert freqs.tolist() == normalise(np.array(row)).tolist()  # type: ignore[arg-type]


@given(counts)
def test_a_larger_count_never_gets_a_smaller_frequency(row: list[int]) -> None:
    freqs = normalise(row).tolist()
    ordered = [freq for _, freq in sorted(zip(row, freqs, strict=True))]
    assert ordered == sorted(ordered)


@given(counts, st.integers(1, 1000))
def test_only_proportions_count(row: list[int], factor: int) -> None:
    assert normalise([factor * count for count in row]).tolist() == normalise(row).tolist()


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=100))
def test_frequencies_cost_little_more_than_exact_probabilities(row: list[int]) -> None:
    exact, freqs = np.array(row) / sum(row), normalise(row) / TOTAL
    assert (exact * np.log2(exact / freqs)).sum() <= 2 * len(row) / TOTAL


def test_frequencies_of_known_counts() -> None:
    assert normalise([1, 1]).tolist() == [16384, 16384]
    assert normalise([1, 1, 1]).tolist() == [10923, 10923, 10922]
    assert normalise([0, 1]).tolist() == [1, 32767]
    assert normalise([10**30, 1, 0]).tolist() == [32766, 1, 1]
    assert normalise([1] * TOTAL).tolist() == [1] * TOTAL


@pytest.mark.parametrize("row", [[], [5], [0, 0], [3, -1], [1] * (TOTAL + 1)])
def test_counts_that_make_no_table_are_refused(row: list[int]) -> None:
    with pytest.raises(ConfigError, match=f"counts has {len(row)} items of sum {sum(row)}"):
        normalise(row)


WRONG: list[tuple[str, Callable[[], object]]] = [
    ("freqs is int64[2], must be uint16[2]", lambda: Table(0, np.array([1, TOTAL - 1]))),
    ("freqs[1] is 0, must be 1 or more", lambda: Table(0, np.array([TOTAL, 0], np.uint16))),
    ("freqs has 2 items of sum 2", lambda: Table(0, np.ones(2, np.uint16))),
    ("freqs has 1 items of sum 32768", lambda: Table(0, np.array([TOTAL], np.uint16))),
    ("low is -32769", lambda: table(-32769, 1, 1)),
    ("last value 32768", lambda: table(32767, 1, 1, 1)),
    ("inverse_step[0] is 0.0", lambda: quantiser(inverse_step=single(0, 1, 1))),
    ("inverse_step[1] is inf", lambda: quantiser(inverse_step=single(1, np.inf, 1))),
    ("offset[2] is 1.0, must be 0 or more and below 1", lambda: quantiser(offset=single(0, 0.5, 1))),
    ("offset[0] is nan", lambda: quantiser(offset=single(np.nan, 0, 0))),
    ("step[1] is -1.0", lambda: quantiser(step=single(1, -1, 1))),
    ("step[0] is 1.0000002", lambda: quantiser(step=single(1e-39, 1, 1))),
    ("step[0] is 9.999999", lambda: quantiser(step=single(1e34, 1, 1))),
    ("shift[2] is -1.0", lambda: quantiser(shift=single(0, 0, -1))),
    ("shift is float64[3], must be float32[3]", lambda: quantiser(shift=np.zeros(3))),
    ("step is float32[2], must be float32[3]", lambda: quantiser(step=single(1, 1))),
    ("index is int64[3], must be uint16[3]", lambda: EntropyCoder(np.zeros(3, int), [_TABLE])),  # type: ignore[arg-type]
    ("0 values and 1 tables", lambda: EntropyCoder(_UNUSED[:0], [_TABLE])),
    ("3 values and 0 tables", lambda: EntropyCoder(_UNUSED, [])),
    ("index[0] is 1, must be below 1", lambda: EntropyCoder(_UNUSED + np.uint16(1), [_TABLE])),
    ("inverse_step is float32[3], must be float32[2]", lambda: EntropyCoder(_UNUSED[:2], [_TABLE], quantiser())),
]


@pytest.mark.parametrize(("fact", "make"), WRONG, ids=[fact for fact, _ in WRONG])
def test_what_a_coder_cannot_be_made_of_is_named(fact: str, make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=f"^entropy coder: .*{re.escape(fact)}"):
        make()


def arrays_of(case: Case) -> list[np.ndarray]:
    return [np.array(array) for array in case.coder(pure=True).arrays]


def survive(arrays: list[Any]) -> None:
    """The extension takes the arrays and works, or says no; a crash would end the test run."""
    from schemas.codecs._rans import Coder  # noqa: PLC0415 - not there on every machine

    try:
        coder = Coder(*arrays)
    except (ConfigError, TypeError, BufferError):
        return
    count = len(bytes(arrays[0])) // 2
    payload = coder.encode(np.linspace(-9, 9, count, dtype=np.float32))
    assert len(coder.decode(payload)) == count
    with pytest.raises(DecodeError):
        coder.decode(payload[:-1])


@pytest.mark.skipif(not HAS_C, reason="the extension was not compiled here")
@given(st.data())
def test_no_argument_breaks_the_extension(data: st.DataObject) -> None:
    arrays: list[Any] = arrays_of(data.draw(cases(most=8)))
    which = data.draw(st.integers(0, len(arrays) - 1))
    raw = bytearray(arrays[which].tobytes())
    if raw and data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        arrays[which] = bytes(raw)
    else:
        arrays[which] = data.draw(st.binary(max_size=40) | st.none() | st.just("text"))
    survive(arrays)


@pytest.mark.skipif(not HAS_C, reason="the extension was not compiled here")
def test_the_extension_says_what_is_wrong_with_its_arguments() -> None:
    from schemas.codecs._rans import Coder  # noqa: PLC0415

    good = arrays_of(GOLDEN["entropy_plain"][0])
    for which, bad, fact in (
        (0, good[0] + np.uint16(1), "index must name a table"),
        (0, good[0][:0], "index must have 1 to"),
        (2, good[2] + 1, "sizes must be 2 or more|freqs must"),
        (3, good[3] * 0, "freqs must each be 1 or more"),
        (5, good[5] - 1, "offset must be 0 or more"),
        (6, good[6][1:], "step must have an item for each value"),
    ):
        with pytest.raises(ConfigError, match=fact):
            Coder(*good[:which], bad, *good[which + 1 :])
    with pytest.raises(TypeError, match="takes 8 arrays, got 1"):
        Coder(good[0])
