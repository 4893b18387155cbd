"""A codec with tables, for tests of the way that tables take: each value as the place of the nearest in a table.

Payload: one byte a value, its place in the table `values` (or in that which the configuration's `table` names).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from schemas.codecs import Config, Tables
from schemas.codecs.tables import require_tables, table_of
from schemas.errors import DecodeError
from schemas.tensor import Array, TensorSpec

VALUES = np.linspace(0, 3, 200, dtype=np.float32)
TABLES: Tables = {"values": VALUES, "coarse": VALUES[::50].copy()}


class Lookup:
    id: ClassVar[str] = "lookup"
    needs_tables: ClassVar[bool] = True

    def __init__(self, spec: TensorSpec, config: Config, tables: Tables | None = None) -> None:
        self._spec = spec
        self._values = table_of(require_tables(self.id, tables), config.get("table", "values"), "float32", (None,))
        self.max_payload = spec.elements

    def encode(self, array: Array) -> bytes:
        distance = np.abs(self._spec.check(array).reshape(-1, 1) - self._values)
        return distance.argmin(axis=1).astype(np.uint8).tobytes()

    def decode(self, payload: bytes) -> Array:
        levels = np.frombuffer(payload, np.uint8)
        if levels.size != self._spec.elements or levels.max(initial=0) >= self._values.size:
            raise DecodeError("not places in the table")
        return self._values[levels].reshape(self._spec.shape)
