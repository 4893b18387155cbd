from __future__ import annotations

import itertools
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codecs import rans_python
from schemas.codecs.entropy import PRECISION, EntropyCoder, Quantiser
from schemas.errors import DecodeError, TensorError
from tests.golden.store import FOLDER, Golden, read_index
from tests.schemas.codecs.entropy_cases import (
    GOLDEN,
    HAS_C,
    Case,
    cases,
    golden_case,
    golden_entry,
    levels,
    single,
    table,
    values,
)

_FILES = {name: entry for name, entry in read_index().items() if "entropy" in entry}
kinds = pytest.mark.parametrize("pure", [pytest.param(False, marks=pytest.mark.skipif(not HAS_C, reason="no C")), True])
needs_c = pytest.mark.skipif(not HAS_C, reason="the extension was not compiled here")


def outcome(coder: EntropyCoder, payload: bytes) -> object:
    try:
        return coder.decode(payload).tobytes()
    except DecodeError as error:
        return str(error)


@pytest.mark.skipif(not {"CI", "SPLITBUS_REQUIRE_C"} & set(os.environ), reason="neither CI nor SPLITBUS_REQUIRE_C set")
def test_the_extension_is_there_where_it_must_be() -> None:
    assert HAS_C, "schemas/codecs/_rans.c was not compiled; install a C compiler, then the project again"


@given(st.data())
def test_levels_come_back_clipped_to_int16(data: st.DataObject) -> None:
    case = data.draw(cases())
    given_ = data.draw(levels(case.index.size))
    for coder in case.coders():
        decoded = coder.decode_values(coder.encode_values(given_))
        assert decoded.dtype == np.int32
        assert decoded.tolist() == np.clip(given_, -32768, 32767).tolist()


@given(st.data())
def test_values_come_back_as_the_quantiser_says(data: st.DataObject) -> None:
    case = data.draw(cases())
    array = data.draw(values(case.index.size))
    for coder in case.coders():
        payload = coder.encode(array)
        assert coder.decode_values(payload).tolist() == [level(case.quantiser, i, y) for i, y in enumerate(array)]
        wanted = [value(case.quantiser, i, q) for i, q in enumerate(coder.decode_values(payload).tolist())]
        assert coder.decode(payload).tobytes() == np.array(wanted, np.float32).tobytes()


def level(quantiser: Quantiser, i: int, y: np.float32) -> int:
    with np.errstate(all="ignore"):
        scaled = y * quantiser.inverse_step[i]
        size = np.abs(scaled) + quantiser.offset[i]
    if np.isnan(scaled):
        return 0
    return int(np.sign(scaled)) * min(32767, int(min(np.floor(size), np.float32(40000))))


def value(quantiser: Quantiser, i: int, q: int) -> np.float32:
    sign = np.float32(np.sign(q))
    return np.float32((np.float32(q) + sign * quantiser.shift[i]) * quantiser.step[i])


@given(st.integers(1, 30).flatmap(values))
def test_rounding_errs_by_half_a_step_at_most(array: np.ndarray) -> None:
    case = Case(np.zeros(array.size, np.uint16), [table(-2, 1, 4, 9, 4, 1, 1)], Quantiser.rounding(array.size))
    decoded = case.coder(pure=False).decode(case.coder(pure=False).encode(array))
    near = np.abs(array) < 32767
    assert np.all(np.abs(decoded[near] - array[near]) <= 0.5 + 2.0**-9)
    assert np.all(np.abs(decoded[np.abs(array) >= 32768]) == 32767)


@needs_c
@given(st.data())
def test_c_and_python_make_the_same_bytes(data: st.DataObject) -> None:
    case = data.draw(cases())
    array, given_ = data.draw(values(case.index.size)), data.draw(levels(case.index.size))
    c, python = case.coders()
    assert c.encode(array) == python.encode(array)
    assert c.encode_values(given_) == python.encode_values(given_)


@needs_c
@given(st.data())
def test_c_and_python_make_the_same_of_any_bytes(data: st.DataObject) -> None:
    case = data.draw(cases(most=6))
    c, python = case.coders()
    payload = data.draw(st.binary(max_size=40))
    assert outcome(c, payload) == outcome(python, payload)
    damaged = bytearray(c.encode_values(data.draw(levels(case.index.size))))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    assert outcome(c, bytes(damaged)) == outcome(python, bytes(damaged))


@given(st.data())
def test_a_payload_is_as_long_as_the_tables_say_and_17_bits(data: st.DataObject) -> None:
    case = data.draw(cases())
    given_ = data.draw(levels(case.index.size))
    coder = case.coder(pure=False)
    payload = coder.encode_values(given_)
    assert 0 <= 8 * len(payload) - coder.cost_bits(given_) - 15.5 <= 10
    assert len(payload) <= coder.max_payload


@pytest.mark.parametrize("count", [1, 1000, 20_000])
def test_a_value_that_was_all_but_certain_takes_all_but_nothing(count: int) -> None:
    certain = table(0, 1_000_000, 1)
    case = Case(np.zeros(count, np.uint16), [certain], Quantiser.rounding(count))
    coder = case.coder(pure=False)
    payload = coder.encode(np.zeros(count, np.float32))
    assert 8 * len(payload) <= 16 + 8 + count * np.log2(2**PRECISION / (2**PRECISION - 1))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_coder_still_makes_its_golden_bytes(name: str, golden: Golden) -> None:
    case, array = GOLDEN[name]
    for coder in case.coders():
        fresh = coder.encode(array)
        assert golden.bytes_of(f"{name}.bin", fresh, golden_entry(case, coder.decode(fresh))) == fresh


@pytest.mark.parametrize("name", _FILES)
def test_golden_bytes_decode_to_what_the_index_says(name: str) -> None:
    case, told = golden_case(_FILES[name])
    for coder in case.coders():
        assert coder.decode((FOLDER / name).read_bytes()).astype("<f4").tobytes() == told


@pytest.mark.parametrize("name", _FILES)
def test_no_prefix_no_flipped_bit_and_no_byte_more_passes_for_golden_bytes(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    whole, bits = int.from_bytes(data, "big"), 8 * len(data)
    flipped = [(whole ^ 1 << bit).to_bytes(len(data), "big") for bit in range(bits)]
    more = [data + bytes([byte]) for byte in range(256)] + [bytes([byte]) + data for byte in range(256)]
    for coder in golden_case(_FILES[name])[0].coders():
        for bad in [*(data[:length] for length in range(len(data))), *flipped, *more]:
            with pytest.raises(DecodeError):
                coder.decode(bad)


@pytest.mark.parametrize("name", _FILES)
def test_a_single_other_level_never_passes(name: str) -> None:
    case, _ = golden_case(_FILES[name])
    coder = case.coder(pure=False)
    given_ = coder.decode_values((FOLDER / name).read_bytes())
    sums = set()
    for shift in range(-40, 41):
        other = given_.copy()
        other[0] = np.clip(other[0] + shift, -32768, 32767)
        sums.add(rans_python.Coder(*coder.arrays)._checksum(other))
    assert len(sums) >= 41


@kinds
def test_an_escape_that_was_not_needed_is_refused(*, pure: bool) -> None:
    case = Case(np.zeros(1, np.uint16), [table(0, 1, 1, 1)], Quantiser.rounding(1))
    python = rans_python.Coder(*case.coder(pure=True).arrays)
    for number, good in ((1, False), (5, True)):
        sink = rans_python._Sink(rans_python._START + python._checksum(np.array([number], np.int32)))
        sink.put(0, 1, 8)
        sink.put(2 * number, 1, 8)
        start, freq = sum(case.tables[0].freqs[:2].tolist()), int(case.tables[0].freqs[2])
        sink.put(start, freq, PRECISION)
        assert (outcome(case.coder(pure=pure), sink.payload()) == single(number).tobytes()) is good


@given(st.data())
def test_any_bytes_give_an_array_or_a_decode_error(data: st.DataObject) -> None:
    case = data.draw(cases())
    for coder in case.coders():
        for payload in (data.draw(st.binary(max_size=300)), bytes(data.draw(st.integers(0, 2000)))):
            try:
                array = coder.decode(payload)
            except DecodeError as error:
                assert str(error)  # noqa: PT017 - either outcome is right, another exception is not
            else:
                assert (array.dtype, array.shape) == (np.dtype(np.float32), (coder.count,))
                assert coder.encode_values(coder.decode_values(payload)) == payload


@kinds
@pytest.mark.parametrize("length", [0, 3, 4096, 10_000_000])
def test_decoding_allocates_what_the_values_take_whatever_the_payload(length: int, *, pure: bool) -> None:
    count = 2000
    case = Case(np.zeros(count, np.uint16), [table(-1, 1, 5, 1, 1)], Quantiser.rounding(count))
    coder, payload = case.coder(pure=pure), np.random.default_rng(3).bytes(length)
    tracemalloc.start()
    with pytest.raises(DecodeError):
        coder.decode(payload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (100 if pure else 8) * count


@kinds
def test_any_bytes_like_object_is_a_payload_and_nothing_else(*, pure: bool) -> None:
    coder = GOLDEN["entropy_plain"][0].coder(pure=pure)
    payload = coder.encode(GOLDEN["entropy_plain"][1])
    spread = bytes(itertools.chain.from_iterable((byte, 7) for byte in payload))
    likes = [bytearray(payload), memoryview(payload), np.frombuffer(payload, np.uint8), memoryview(spread)[::2]]
    for like in likes:
        assert coder.decode(like).tobytes() == coder.decode(payload).tobytes()  # type: ignore[arg-type]
    for wrong in ("text", 3, None, [1, 2]):
        with pytest.raises(TypeError):
            coder.decode(wrong)  # type: ignore[arg-type]


@kinds
def test_an_array_of_another_dtype_size_or_order_is_refused(*, pure: bool) -> None:
    case, array = GOLDEN["entropy_plain"]
    coder = case.coder(pure=pure)
    assert coder.encode(array.reshape(6, 8)) == coder.encode(array)
    turned, every_other = np.asfortranarray(array.reshape(6, 8)), np.repeat(array, 2)[::2]
    doubles, fewer = array.astype(np.float64), array[:-1]
    for wrong in (turned, every_other, doubles, fewer, fewer.astype(np.int32), array.tobytes(), 3, None):
        with pytest.raises(TensorError, match="takes 48 values of float32 in C order"):
            coder.encode(wrong)  # type: ignore[arg-type]
    with pytest.raises(TensorError, match="takes 48 values of int32 in C order"):
        coder.encode_values(array)  # type: ignore[arg-type]


@kinds
def test_what_is_decoded_is_the_callers_own(*, pure: bool) -> None:
    case, array = GOLDEN["entropy_plain"]
    coder = case.coder(pure=pure)
    payload = coder.encode(array)
    first = coder.decode(payload)
    first[:] = 7
    assert coder.decode(payload)[0] != 7
