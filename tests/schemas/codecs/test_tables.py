from __future__ import annotations

import struct
import tracemalloc
from typing import Any, get_args

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codecs.tables import (
    MAX_TABLES_BYTES,
    TableDType,
    Tables,
    pack_tables,
    require_tables,
    table_of,
    unpack_tables,
)
from schemas.errors import BundleError, ConfigError
from schemas.wire import MAX_ITEMS

DTYPES = get_args(TableDType)
TABLES: Tables = {
    "steps": np.array([[0.5, 1.5, 2.5]], np.float32),
    "counts": np.array([1, 255, 65_535], np.uint16),
    "basis": np.arange(-4, 4, dtype=np.int64).reshape(2, 2, 2),
}
PACKED = pack_tables(TABLES)


def packed(**tables: Any) -> bytes:
    data: bytes = msgpack.packb(tables)
    return data


names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    dtype, shape = (
        np.dtype(draw(st.sampled_from(DTYPES))),
        tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))),
    )
    count = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(draw(st.binary(min_size=count, max_size=count)), dtype).reshape(shape)


@given(st.dictionaries(names, arrays(), max_size=4))
def test_tables_come_back_as_they_were_bit_by_bit(tables: dict[str, Any]) -> None:
    again = unpack_tables(pack_tables(tables))
    assert {name: (each.dtype, each.shape, each.tobytes()) for name, each in again.items()} == {
        name: (each.dtype, each.shape, each.tobytes()) for name, each in tables.items()
    }
    assert not any(each.flags.writeable for each in again.values())


def test_equal_tables_give_equal_bytes_whatever_their_order_strides_and_byte_order() -> None:
    turned = dict(reversed(TABLES.items()))
    assert pack_tables(turned) == PACKED
    assert pack_tables({name: np.asfortranarray(each) for name, each in TABLES.items()}) == PACKED
    assert pack_tables({name: each.astype(each.dtype.newbyteorder(">")) for name, each in TABLES.items()}) == PACKED


def test_the_bytes_are_the_same_for_ever() -> None:
    assert pack_tables({"b": np.array([1, -1], np.int16), "a": np.array([[1.5]], np.float32)}).hex() == (
        "82a16193a7666c6f6174333292" + "0101c4040000c03f" + "a16293a5696e7431369102c4040100ffff"
    )


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("Steps", np.zeros(2, np.int8), "Steps"),
        ("../up", np.zeros(2, np.int8), "../up"),
        ("a" * 64, np.zeros(2, np.int8), "aaa"),
        ("steps", np.zeros((), np.int8), "steps.1"),
        ("steps", np.zeros((2, 0), np.int8), "steps.1"),
        ("steps", np.zeros((1,) * 7, np.int8), "steps.1"),
        ("steps", np.zeros(65_537, np.int8), "steps.1"),
        ("steps", np.zeros(2, np.float16), "steps.0"),
        ("steps", np.zeros(2, np.complex64), "steps.0"),
        ("steps", np.zeros(2, np.bool_), "steps.0"),
        ("steps", np.array(["text"]), "steps.0"),
        ("steps", np.array([object()]), "steps.0"),
    ],
)
def test_what_a_file_cannot_hold_is_a_config_error_that_names_the_table(name: str, array: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"these tables cannot be packed: .*{message}|packed: {message}"):
        pack_tables({name: array})


def test_too_many_or_too_large_tables_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match="at most 256"):
        pack_tables({f"t{number}": np.zeros(1, np.int8) for number in range(MAX_ITEMS + 1)})
    with pytest.raises(ConfigError, match="use a smaller dtype or fewer tables"):
        pack_tables({"large": np.zeros((MAX_TABLES_BYTES // 4096, 4096), np.uint8)})


_BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a whole msgpack value"),
    "array": (packed()[:0] + msgpack.packb([1]), "valid dictionary"),
    "no triple": (packed(steps=["int8", [1]]), "steps.2"),
    "text for bytes": (packed(steps=["int8", [1], "a"]), "steps.2"),
    "unknown dtype": (packed(steps=["object", [1], b"a"]), "steps.0"),
    "python dtype": (packed(steps=["<f4", [1], b"aaaa"]), "steps.0"),
    "short": (packed(steps=["float32", [2], b"aaaa"]), r"table steps of float32\[2\] takes 8 bytes, got 4"),
    "long": (packed(steps=["int8", [2], b"aaaa"]), r"table steps of int8\[2\] takes 2 bytes, got 4"),
    "huge": (packed(steps=["int64", [65_536] * 6, b""]), "table steps of int64.* bytes, got 0"),
    "negative": (packed(steps=["int8", [-1, -1], b"a"]), "steps.1"),
    "float size": (packed(steps=["int8", [1.0], b"a"]), "steps.1"),
    "true as size": (packed(steps=["int8", [True], b"a"]), "steps.1"),
    "no size": (packed(steps=["int8", [], b"a"]), "steps.1"),
    "capital": (packed(Steps=["int8", [1], b"a"]), "Steps"),
    "bytes as name": (msgpack.packb({b"steps": ["int8", [1], b"a"]}), "key"),
    "number as name": (msgpack.packb({1: ["int8", [1], b"a"]}), "msgpack"),
    "not in order": (packed(b=["int8", [1], b"a"], a=["int8", [1], b"a"]), "not in order"),
    "twice": (b"\x82" + 2 * packed(a=["int8", [1], b"a"])[1:], "a name comes twice"),
    "not the shortest": (b"\xde\x00\x01" + packed(a=["int8", [1], b"a"])[1:], "not in its shortest form"),
    "more after it": (PACKED + b"\xc0", "not a whole msgpack value"),
    "extension": (packed(steps=msgpack.ExtType(1, b"a")), "msgpack"),
    "deep": (b"\x81\xa1a" + b"\x91" * 5000, "msgpack"),
    "claims much": (b"\x81\xa1a\x93\xa4int8\x91\x01\xc6" + struct.pack(">I", 0x7FFFFFFF), "msgpack"),
    "over the cap": (bytes(MAX_TABLES_BYTES + 1), "the cap is"),
}


@pytest.mark.parametrize("name", _BROKEN)
def test_a_file_that_is_not_one_is_a_bundle_error_before_anything_is_allocated(name: str) -> None:
    data, message = _BROKEN[name]
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=f"(?s)not a file of codec tables: .*{message}.*fetch the bundle again"):
            unpack_tables(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_every_prefix_is_refused() -> None:
    for length in range(len(PACKED)):
        with pytest.raises(BundleError):
            unpack_tables(PACKED[:length])


def test_a_flipped_bit_gives_other_tables_or_a_bundle_error() -> None:
    whole = int.from_bytes(PACKED)
    for bit in range(8 * len(PACKED)):
        data = (whole ^ (1 << bit)).to_bytes(len(PACKED))
        try:
            assert pack_tables(unpack_tables(data)) == data
        except BundleError as error:
            assert str(error)  # noqa: PT017


@given(st.binary(max_size=200))
def test_random_bytes_are_a_bundle_error_or_tables(data: bytes) -> None:
    try:
        assert pack_tables(unpack_tables(data)) == data
    except BundleError as error:
        assert str(error)  # noqa: PT017


def test_a_table_is_handed_out_when_dtype_and_shape_are_as_expected() -> None:
    assert table_of(TABLES, "steps", "float32", (1, 3)) is TABLES["steps"]
    assert table_of(TABLES, "steps", "float32", (None, 3)) is TABLES["steps"]


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "message"),
    [
        ("other", "int8", (3,), r"no table other, int8\[3\] is needed; the file has basis, counts, steps"),
        ("steps", "float64", (1, 3), r"table steps is float32\[1, 3\], expected float64\[1, 3\]; calibrate"),
        ("steps", "float32", (None, 4), r"expected float32\[any, 4\]"),
        ("steps", "float32", (3,), r"expected float32\[3\]"),
        ("steps", "float32", (None, None, None), r"expected float32\[any, any, any\]"),
    ],
)
def test_a_table_that_is_missing_or_another_is_a_config_error(
    name: str, dtype: TableDType, shape: tuple[int | None, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        table_of(TABLES, name, dtype, shape)


def test_no_tables_at_all_are_told_apart_from_an_empty_file() -> None:
    assert require_tables("transform", {}) == {}
    with pytest.raises(ConfigError, match="codec transform needs tables"):
        require_tables("transform", None)
    with pytest.raises(ConfigError, match="the file has none"):
        table_of({}, "steps", "int8", (1,))
