"""Whether bytes are a whole TFLite file, before an interpreter sees them.

tflite-runtime 2.14 reads past the end of a file that was cut off and takes the process down with it, so the
FlatBuffer's references are walked here first: every table, vector and string must lie inside the file. This
protects from damage; against a forger there are the bundle's signature and digests.
"""

from __future__ import annotations

import struct
from typing import Final

from schemas.errors import BundleError

IDENTIFIER: Final = b"TFL3"
_MAX_TABLES = 1 << 20

Reference = int | tuple[str, bool]
Layout = dict[int, Reference]
"""Of a table, by field number, what it refers to: a vector of scalars of so many bytes (a string's are 1), or
a table by name, alone or (True) in a vector. Scalars of the table itself are not listed."""

_LAYOUTS: Final[dict[str, Layout]] = {
    "Model": {
        1: ("OperatorCode", True),
        2: ("SubGraph", True),
        3: 1,
        4: ("Buffer", True),
        5: 4,
        6: ("Metadata", True),
        7: ("SignatureDef", True),
    },
    "OperatorCode": {1: 1},
    "SubGraph": {0: ("Tensor", True), 1: 4, 2: 4, 3: ("Operator", True), 4: 1},
    "Tensor": {0: 4, 3: 1, 4: ("Quantization", False), 6: ("Options", False), 7: 4},
    "Quantization": {0: 4, 1: 4, 2: 4, 3: 8, 5: ("Options", False)},
    "Operator": {1: 4, 2: 4, 4: ("Options", False), 5: 1, 7: 1, 8: 4},
    "Options": {},
    "Buffer": {0: 1},
    "Metadata": {0: 1},
    "SignatureDef": {0: ("TensorMap", True), 1: ("TensorMap", True), 2: 1},
    "TensorMap": {0: 1},
}


def check_tflite(model: bytes) -> None:
    """Return when `model` is a whole TFLite file. Raises BundleError for anything else."""
    if model[4:8] != IDENTIFIER:
        msg = f"the TFLite head does not say {IDENTIFIER.decode()} where a TFLite file does; build the bundle again"
        raise BundleError(msg)
    try:
        _Walk(model).run()
    except (struct.error, ValueError) as error:
        msg = f"the TFLite head of {len(model)} bytes is damaged or cut off ({error}); fetch the bundle again"
        raise BundleError(msg) from None


class _Walk:
    """One pass over all tables. Raises ValueError or struct.error for a reference out of the file."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._todo: list[tuple[str, int]] = []

    def run(self) -> None:
        self._todo.append(("Model", self._follow(0)))
        seen = 0
        while self._todo:
            seen += 1
            if seen > _MAX_TABLES:
                msg = f"it has more than {_MAX_TABLES} tables"
                raise ValueError(msg)
            self._table(*self._todo.pop())

    def _table(self, name: str, place: int) -> None:
        (back,) = struct.unpack_from("<i", self._data, place)
        vtable = self._inside(place - back, 4)
        vtable_size, table_size = struct.unpack_from("<HH", self._data, vtable)
        self._inside(place, table_size)
        fields = struct.unpack_from(f"<{max(vtable_size - 4, 0) // 2}H", self._data, vtable + 4)
        if any(offset >= table_size for offset in fields):
            msg = f"a field of the {name} at {place} lies outside it"
            raise ValueError(msg)
        for number, kind in _LAYOUTS[name].items():
            if number < len(fields) and fields[number]:
                self._reference(self._follow(place + fields[number]), kind)

    def _reference(self, place: int, kind: Reference) -> None:
        if isinstance(kind, tuple) and not kind[1]:
            self._todo.append((kind[0], place))
            return
        (count,) = struct.unpack_from("<I", self._data, place)
        width = kind if isinstance(kind, int) else 4
        first = self._inside(place + 4, count * width)
        if isinstance(kind, tuple):
            self._todo += [(kind[0], self._follow(first + 4 * index)) for index in range(count)]

    def _follow(self, place: int) -> int:
        """Where the offset at `place` points to."""
        (offset,) = struct.unpack_from("<I", self._data, self._inside(place, 4))
        return self._inside(place + offset, 4)

    def _inside(self, place: int, size: int) -> int:
        if place < 0 or place + size > len(self._data):
            msg = f"byte {place + size} of {len(self._data)} is needed"
            raise ValueError(msg)
        return place
