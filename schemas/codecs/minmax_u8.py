"""`minmax_u8`: one byte a value between the frame's own minimum and maximum; the baseline to beat.

Payload: float32 minimum, float32 maximum (little-endian), then one byte a value in C order.
"""

from __future__ import annotations

import struct
from typing import ClassVar

import numpy as np

from schemas.codecs.base import Config
from schemas.codecs.tables import Tables, refuse_tables
from schemas.errors import ConfigError, DecodeError
from schemas.tensor import Array, FloatArray, TensorSpec

_RANGE = struct.Struct("<ff")
_TOP = 255


class MinMaxU8:
    """Min-max quantisation to 256 levels: absolute error at most (max - min) / 510 for finite values.

    Minimum and maximum are taken over the finite values; infinities saturate to them, NaN becomes the
    value nearest to zero, a constant tensor comes back exactly, a tensor without a finite value as zeros.
    """

    id: ClassVar[str] = "minmax_u8"
    needs_tables: ClassVar[bool] = False

    def __init__(self, spec: TensorSpec, config: Config, tables: Tables | None = None) -> None:
        refuse_tables(self.id, tables)
        if config:
            msg = f"codec minmax_u8 takes no configuration, got {sorted(config)}; leave it empty"
            raise ConfigError(msg)
        if spec.dtype != "float32":
            msg = f"codec minmax_u8 takes float32, the tensor is {spec}"
            raise ConfigError(msg)
        self._spec = spec
        self.max_payload = _RANGE.size + spec.elements

    def encode(self, array: Array) -> bytes:
        """Bytes of one tensor. Raises TensorError when it does not fit the spec."""
        values = self._spec.check(array).astype(np.float64)
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        low, high = low + 0.0, high + 0.0  # never -0.0: which zero is the minimum differs between platforms
        nearest_zero = min(max(0.0, low), high)
        clean = np.clip(np.nan_to_num(values, nan=nearest_zero, posinf=high, neginf=low), low, high)
        span = high - low
        levels = np.rint((clean - low) / span * _TOP) if span > 0 else np.zeros_like(clean)
        return _RANGE.pack(low, high) + levels.astype(np.uint8).tobytes()

    def decode(self, payload: bytes) -> FloatArray:
        """Tensor of the spec. Raises DecodeError for a wrong length or an impossible range."""
        if len(payload) != self.max_payload:
            msg = f"minmax_u8 of {self._spec} takes {self.max_payload} bytes, got {len(payload)}"
            raise DecodeError(msg)
        low, high = _RANGE.unpack_from(payload)
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            msg = f"minmax_u8 states the range [{low}, {high}], which no encoder makes"
            raise DecodeError(msg)
        levels = np.frombuffer(payload, dtype=np.uint8, offset=_RANGE.size)
        values = low + levels.astype(np.float64) * ((high - low) / _TOP)
        values[levels == _TOP] = high  # exactly, however far apart the two are
        single: FloatArray = values.astype(np.float32)
        return single.reshape(self._spec.shape)
