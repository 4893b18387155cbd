from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codecs.affine import Affine, pack_levels, unpack_levels
from schemas.errors import ConfigError, DecodeError
from schemas.tensor import FloatArray, TensorSpec
from tests.schemas.samples import SPEC

_EPS = 2.0**-22
"""Four roundings of float32, relative to the largest number in them."""

bits = st.integers(2, 8)
scales = st.floats(2.0**-60, 2.0**60, width=32)
zeros = st.floats(-(2.0**60), 2.0**60, width=32)
values = st.lists(st.floats(width=32), min_size=1, max_size=40).map(lambda row: np.array(row, np.float32))


def codec(size: int, bits_: int, scale: float, zero: float) -> Affine:
    spec = TensorSpec(dtype="float32", shape=(1, size))
    return Affine(spec, {"bits": bits_, "scale": [scale], "zero": [zero]})


@given(bits, st.data())
def test_unpacking_gives_the_levels_that_were_packed(width: int, data: st.DataObject) -> None:
    levels = np.array(data.draw(st.lists(st.integers(0, (1 << width) - 1), min_size=1, max_size=50)), np.uint8)
    payload = pack_levels(levels, width)
    assert len(payload) == (levels.size * width + 7) // 8
    assert unpack_levels(payload, levels.size, width).tolist() == levels.tolist()


@given(bits, st.integers(1, 20), st.binary(max_size=24))
def test_what_unpacks_is_what_packing_makes(width: int, count: int, payload: bytes) -> None:
    try:
        levels = unpack_levels(payload, count, width)
    except DecodeError:
        return
    assert pack_levels(levels, width) == payload


@pytest.mark.parametrize("width", range(2, 9))
def test_the_most_significant_bit_comes_first(width: int) -> None:
    top = (1 << width) - 1
    text = f"{1:0{width}b}{top:0{width}b}{0:0{width}b}"
    expected = int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
    assert pack_levels(np.array([1, top, 0], np.uint8), width) == expected


def test_padding_that_is_not_zero_and_other_lengths_are_refused() -> None:
    good = pack_levels(np.array([1, 2, 3], np.uint8), 3)
    for bad in (good[:-1] + bytes([good[-1] | 1]), good[:-1], good + b"\0", b""):
        with pytest.raises(DecodeError):
            unpack_levels(bad, 3, 3)


@given(values, bits, scales, zeros)
def test_the_error_is_half_a_step_inside_the_range_and_saturates_outside(
    row: FloatArray, width: int, scale: float, zero: float
) -> None:
    decoded = codec(row.size, width, scale, zero)
    back = decoded.decode(decoded.encode(row[None]))[0].astype(np.float64)
    low, high = zero, zero + scale * ((1 << width) - 1)
    wanted = np.clip(np.nan_to_num(row.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf), low, high)
    rounding = _EPS * max(abs(low), abs(high))
    assert (np.abs(back - wanted) <= scale / 2 + rounding).all()


@given(values, bits, st.floats(0.5, 2.0, width=32), st.integers(-1000, 1000))
def test_encoding_what_was_decoded_gives_the_same_bytes(row: FloatArray, width: int, scale: float, zero: int) -> None:
    one = codec(row.size, width, scale, float(zero))
    payload = one.encode(row[None])
    assert one.encode(one.decode(payload)) == payload


def test_each_channel_has_its_own_scale_and_zero() -> None:
    spec = TensorSpec(dtype="float32", shape=(2, 3))
    one = Affine(spec, {"bits": 2, "scale": [1.0, 10.0], "zero": [0.0, -10.0]})
    array = np.array([[0, 1, 9], [-10, 0, 99]], np.float32)
    assert one.decode(one.encode(array)).tolist() == [[0, 1, 3], [-10, 0, 20]]


@pytest.mark.parametrize("scale", [float(np.finfo(np.float32).tiny), 1e-30, 1e30])
def test_extreme_steps_and_values_make_no_warning(scale: float) -> None:
    row = np.array([[np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, -0.0]], np.float32)
    one = codec(row.size, 8, scale, 0.0)
    assert np.isfinite(one.decode(one.encode(row))).all()


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"bits": 1}, "bits"),
        ({"bits": 9}, "bits"),
        ({"bits": "4"}, "bits"),
        ({"bits": True}, "bits"),
        ({"bits": 4.0}, "bits"),
        ({"scale": []}, "scale"),
        ({"scale": [0.0]}, "scale"),
        ({"scale": [-1.0]}, "scale"),
        ({"scale": [1e-39]}, "scale"),
        ({"scale": [1e39]}, "scale"),
        ({"scale": [3e37]}, "scale"),
        ({"scale": [float("inf")]}, "scale"),
        ({"scale": ["1"]}, "scale"),
        ({"scale": [1.0, 1.0]}, "scale has 2 values for 3 channels"),
        ({"zero": [1.0] * 4}, "zero has 4 values for 3 channels"),
        ({"zero": [float("nan")]}, "zero"),
        ({"zero": [1e39]}, "zero"),
        ({"zero": 0.0}, "zero"),
        ({"offset": [0.0]}, "offset"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_by_field(config: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=f"codec affine: .*{field}|codec affine: {field}"):
        Affine(SPEC, {"bits": 8, "scale": [1.0], "zero": [0.0], **config})


def test_decoding_allocates_at_most_eight_tensors_and_nothing_for_a_wrong_length() -> None:
    spec = TensorSpec(dtype="float32", shape=(64, 1024))
    for width in range(2, 9):
        one = Affine(spec, {"bits": width, "scale": [1.0], "zero": [0.0]})
        payload = one.encode(np.zeros(spec.shape, np.float32))
        longer = payload + b"\0"
        tracemalloc.start()
        one.decode(payload)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        with pytest.raises(DecodeError):
            one.decode(longer)
        refused = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= 8 * spec.nbytes
        assert refused < 1 << 16
