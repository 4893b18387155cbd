from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codecs.minmax_u8 import MinMaxU8
from schemas.errors import ConfigError, DecodeError
from schemas.tensor import FloatArray, TensorSpec
from tests.schemas.samples import SPEC

_EPS = 2.0**-23

any_rows = st.lists(st.floats(width=32), min_size=1, max_size=60).map(lambda row: np.array(row, np.float32))
finite_rows = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=60).map(
    lambda row: np.array(row, np.float32)
)


def codec(size: int) -> MinMaxU8:
    return MinMaxU8(TensorSpec(dtype="float32", shape=(size,)), {})


def there_and_back(row: FloatArray) -> FloatArray:
    return codec(row.size).decode(codec(row.size).encode(row))


@given(finite_rows)
def test_the_error_is_at_most_the_range_over_510(row: FloatArray) -> None:
    back, exact = there_and_back(row).astype(np.float64), row.astype(np.float64)
    bound = (exact.max() - exact.min()) / 510
    assert (np.abs(back - exact) <= bound + _EPS * np.abs(exact).max()).all()


@given(finite_rows)
def test_minimum_and_maximum_come_back_exactly(row: FloatArray) -> None:
    back = there_and_back(row)
    assert (back.min(), back.max()) == (row.min(), row.max())


@given(any_rows)
def test_encoding_what_was_decoded_gives_the_same_bytes(row: FloatArray) -> None:
    payload = codec(row.size).encode(row)
    assert codec(row.size).encode(codec(row.size).decode(payload)) == payload


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(1, 20))
def test_a_constant_comes_back_exactly(value: float, size: int) -> None:
    assert there_and_back(np.full(size, value, np.float32)).tolist() == [value] * size


def test_infinities_saturate_and_nan_is_the_value_nearest_to_zero() -> None:
    row = np.array([np.nan, np.inf, -np.inf, 2.0, 5.0], np.float32)
    assert there_and_back(row).tolist() == [2.0, 5.0, 2.0, 2.0, 5.0]
    assert there_and_back(-row).tolist() == [-2.0, -5.0, -2.0, -2.0, -5.0]
    back = there_and_back(np.array([np.nan, -255.0, 255.0], np.float32))
    assert abs(back[0]) <= 1


def test_without_a_finite_value_zeros_come_back() -> None:
    assert there_and_back(np.array([np.nan, np.inf, -np.inf], np.float32)).tolist() == [0, 0, 0]


def test_the_widest_range_overflows_nowhere() -> None:
    top = np.finfo(np.float32).max
    assert there_and_back(np.array([top, -top, 0, np.inf, -np.inf], np.float32))[[0, 1, 3, 4]].tolist() == [
        top,
        -top,
        top,
        -top,
    ]


def test_both_zeros_make_the_same_bytes_in_any_order() -> None:
    payloads = {codec(3).encode(np.array(row, np.float32)) for row in ([0.0, -0.0, 1], [-0.0, 0.0, 1], [-0.0, -0.0, 1])}
    assert len(payloads) == 1


@pytest.mark.parametrize("low_high", [(1.0, 0.0), (np.nan, 0.0), (0.0, np.nan), (-np.inf, 0.0), (0.0, np.inf)])
def test_a_range_that_no_encoder_makes_is_refused(low_high: tuple[float, float]) -> None:
    with pytest.raises(DecodeError, match="which no encoder makes"):
        codec(4).decode(struct.pack("<ff", *low_high) + bytes(4))


@pytest.mark.parametrize("length", [0, 7, 8, 11, 13, 65_536])
def test_any_other_length_is_refused_with_both(length: int) -> None:
    with pytest.raises(DecodeError, match=f"takes 12 bytes, got {length}"):
        codec(4).decode(bytes(length))


def test_a_configuration_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"\['bits'\]; leave it empty"):
        MinMaxU8(SPEC, {"bits": 8})
