"""Tables of a codec: named arrays that both halves share and that are too large for manifest.json.

A file of tables is one msgpack map from name to `[dtype, shape, little-endian bytes in C order]`, names in order
and every value in its shortest form: equal tables give equal bytes, and no file can be read in two ways.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final, Literal, cast

import msgpack
import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from schemas.errors import BundleError, ConfigError, WireError
from schemas.record import LAX, explain
from schemas.tensor import Array, Dimension
from schemas.wire import MAX_ITEMS, unpack_value

Tables = Mapping[str, Array]
"""Arrays by name; those that come out of a bundle are read-only."""

MAX_TABLES_BYTES: Final = 16 << 20
"""The largest file of tables; compared with the manifest before the file is read."""

TableName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
TableDType = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"]


_Shape = Annotated[tuple[Dimension, ...], Field(min_length=1, max_length=6), LAX]
_Packed = tuple[TableDType, _Shape, bytes]
"""One table as it stands in the file."""
_FILE: Final[TypeAdapter[dict[str, _Packed]]] = TypeAdapter(
    Annotated[dict[TableName, Annotated[_Packed, LAX]], Field(max_length=MAX_ITEMS)], config={"strict": True}
)


def pack_tables(tables: Tables) -> bytes:
    """The bytes of a file that holds them. Raises ConfigError, naming the table, for what a file cannot hold."""
    packed = {name: _pack(array) for name, array in sorted(tables.items())}
    try:
        _FILE.validate_python(packed)
    except ValidationError as error:
        msg = f"these tables cannot be packed: {explain(error)}"
        raise ConfigError(msg) from None
    data = cast("bytes", msgpack.packb(packed))
    if len(data) > MAX_TABLES_BYTES:
        msg = f"the tables take {len(data)} bytes, the cap is {MAX_TABLES_BYTES}; use a smaller dtype or fewer tables"
        raise ConfigError(msg)
    return data


def unpack_tables(data: bytes) -> Tables:
    """Inverse of `pack_tables`; the arrays are read-only and share the memory of one copy of the file.

    Raises BundleError, naming the table, for a file that `pack_tables` does not make; sizes are compared with
    shapes before any array is made.
    """
    try:
        packed = _FILE.validate_python(unpack_value(data, MAX_TABLES_BYTES))
    except WireError as error:
        raise _broken(str(error)) from None
    except ValidationError as error:
        raise _broken(explain(error)) from None
    tables = {name: _unpack(name, table) for name, table in packed.items()}
    if pack_tables(tables) != data:
        raise _broken("a name comes twice, or the names are not in order, or a value is not in its shortest form")
    return tables


def refuse_tables(codec_id: str, tables: Tables | None) -> None:
    """For a codec without tables: raise ConfigError when there are some."""
    if tables is not None:
        msg = f"codec {codec_id} takes no tables; leave the operating point's tables out"
        raise ConfigError(msg)


def require_tables(codec_id: str, tables: Tables | None) -> Tables:
    """For a codec with tables. Raises ConfigError when there are none."""
    if tables is None:
        msg = f"codec {codec_id} needs tables; name the file that holds them in the operating point's tables"
        raise ConfigError(msg)
    return tables


def table_of(tables: Tables, name: str, dtype: TableDType, shape: tuple[int | None, ...]) -> Array:
    """The table `name`, where None in `shape` stands for any size.

    Raises ConfigError when there is none of that name, or when it is of another dtype or shape.
    """
    expected = f"{dtype}[{', '.join('any' if size is None else str(size) for size in shape)}]"
    array = tables.get(name)
    if array is None:
        msg = f"there is no table {name}, {expected} is needed; the file has {', '.join(sorted(tables)) or 'none'}"
        raise ConfigError(msg)
    fits = len(array.shape) == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not fits:
        msg = f"table {name} is {array.dtype}{list(array.shape)}, expected {expected}; calibrate the codec again"
        raise ConfigError(msg)
    return array


def _pack(array: Array) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.name, array.shape, array.astype(array.dtype.newbyteorder("<")).tobytes()


def _unpack(name: str, packed: _Packed) -> Array:
    dtype, shape, data = packed
    stored = np.dtype(dtype).newbyteorder("<")
    expected = math.prod(shape) * stored.itemsize
    if len(data) != expected:
        raise _broken(f"table {name} of {dtype}{list(shape)} takes {expected} bytes, got {len(data)}")
    array = np.frombuffer(data, stored).reshape(shape).astype(dtype, copy=False)
    array.flags.writeable = False
    return array


def _broken(fact: str) -> BundleError:
    return BundleError(
        f"this is not a file of codec tables: {fact}; calibrate the codec again, or fetch the bundle again"
    )
