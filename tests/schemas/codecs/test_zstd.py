from __future__ import annotations

import struct
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from schemas.codecs.input import Input
from schemas.errors import ConfigError, DecodeError
from schemas.tensor import DType, TensorSpec
from tests.schemas.samples import COLOUR

ZSTD: dict[str, Any] = {"format": "zstd"}
SIZE = COLOUR.nbytes
_RLE = 1


def frame(stated: int, *blocks: bytes) -> bytes:
    """A frame in one segment that states a size below 256."""
    return b"\x28\xb5\x2f\xfd\x20" + bytes([stated]) + b"".join(blocks)


def run_of(count: int, *, last: bool = True) -> bytes:
    """A block of so many zeros."""
    return struct.pack("<I", count << 3 | _RLE << 1 | last)[:3] + b"\0"


def refused(payload: bytes, message: str) -> None:
    codec = Input(COLOUR, ZSTD)
    with pytest.raises(DecodeError):  # what the library loads on first use is no part of the measurement
        codec.decode(b"")
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=message):
            codec.decode(payload)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


@given(
    dtype=st.sampled_from(["float32", "uint8", "int8"]),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
def test_every_value_of_every_dtype_and_shape_comes_back(dtype: DType, shape: list[int], seed: int) -> None:
    spec = TensorSpec(dtype=dtype, shape=tuple(shape))
    data = np.random.default_rng(seed).bytes(spec.nbytes)
    array = np.frombuffer(data, dtype).reshape(shape)
    codec = Input(spec, ZSTD)
    payload = codec.encode(array)
    assert len(payload) <= codec.max_payload
    assert codec.decode(payload).tobytes() == data


@pytest.mark.parametrize("size", [1, 255, 256, 65_536, 131_072, 1 << 20])
def test_noise_stays_under_the_promised_size(size: int) -> None:
    spec = TensorSpec(dtype="uint8", shape=(max(1, size // 1024), min(size, 1024)))
    codec = Input(spec, ZSTD)
    noise = np.random.default_rng(1).integers(0, 256, spec.shape, np.uint8)
    assert len(codec.encode(noise)) <= codec.max_payload


def test_a_frame_by_hand_is_read() -> None:
    assert not Input(COLOUR, ZSTD).decode(frame(SIZE, run_of(SIZE))).any()


def test_a_frame_that_states_another_size_is_refused_unread() -> None:
    for size in (SIZE - 1, SIZE + 1):
        refused(frame(size, run_of(size)), f"the frame holds {size} bytes, .* takes {SIZE}")
    refused(zstandard.compress(bytes(1 << 24)), f"the frame holds {1 << 24} bytes")


def test_a_frame_that_inflates_to_another_size_than_it_states_is_refused_before_it_is_inflated() -> None:
    for size in (SIZE - 1, SIZE + 1, 100_000):
        refused(frame(SIZE, run_of(size)), "not one whole Zstandard frame")
    refused(frame(SIZE, *([run_of(100_000, last=False)] * 1000), run_of(1)), "not one whole Zstandard frame")


def test_a_frame_without_a_size_is_refused() -> None:
    refused(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(SIZE)), "the frame holds")


def test_more_than_one_frame_is_refused() -> None:
    whole = frame(SIZE, run_of(SIZE))
    skipped = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"more"
    for payload in (whole + whole, whole + skipped, whole + b"\0"):
        refused(payload, "unused data")
    refused(skipped + whole, "the frame holds")


def test_a_frame_that_needs_a_dictionary_is_refused() -> None:
    dictionary = zstandard.ZstdCompressionDict(bytes(range(200)) * 9, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    refused(zstandard.ZstdCompressor(dict_data=dictionary).compress(bytes(range(SIZE))), "not one whole")


def test_a_missing_library_is_a_config_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigError, match=r"needs the package zstandard; install splitbus\[edge\]"):
        Input(COLOUR, ZSTD).decode(b"")
