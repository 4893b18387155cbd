"""`affine`: fixed steps per channel, 2 to 8 bits a value, bit-packed.

Scales and zeros come from calibration and stand in the bundle, so a payload is nothing but the levels,
most significant bit first, in C order, padded with zero bits to a whole byte.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import numpy as np
from pydantic import Field, ValidationError

from schemas.codecs.base import Config
from schemas.codecs.tables import Tables, refuse_tables
from schemas.errors import ConfigError, DecodeError
from schemas.record import Record, explain
from schemas.tensor import Array, FloatArray, TensorSpec

_Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
_WHOLE_BYTE: Final = 8


class AffineConfig(Record):
    """`value = level * scale + zero`; one scale and zero for each channel (axis 0), or one for all."""

    bits: Annotated[int, Field(strict=True, ge=2, le=8)]
    scale: Annotated[tuple[_Positive, ...], Field(min_length=1)]
    zero: Annotated[tuple[_Finite, ...], Field(min_length=1)]


class Affine:
    """Uniform quantisation: error at most scale / 2 within the calibrated range, saturation outside it.

    To that comes float32's own rounding of value, scale and zero. NaN is sent as the level nearest to the
    value 0. All arithmetic is single float32 operations in a fixed order, so that every platform makes the
    same bytes.
    """

    id: ClassVar[str] = "affine"
    needs_tables: ClassVar[bool] = False

    def __init__(self, spec: TensorSpec, config: Config, tables: Tables | None = None) -> None:
        refuse_tables(self.id, tables)
        try:
            self._config = AffineConfig.model_validate(config)
        except ValidationError as error:
            msg = f"codec affine: {explain(error)}"
            raise ConfigError(msg) from None
        if spec.dtype != "float32":
            msg = f"codec affine takes float32, the tensor is {spec}"
            raise ConfigError(msg)
        self._spec = spec
        self._scale = _per_channel(self._config.scale, spec, "scale")
        self._zero = _per_channel(self._config.zero, spec, "zero")
        self._top = np.float32((1 << self._config.bits) - 1)
        _check_range(self._scale, self._zero, self._top)
        self.max_payload = (spec.elements * self._config.bits + 7) // 8

    def encode(self, array: Array) -> bytes:
        """Bytes of one tensor. Raises TensorError when it does not fit the spec."""
        levels = self._levels(self._spec.check(array))
        if np.isnan(levels.sum()):
            levels = self._levels(np.nan_to_num(array, nan=0.0))
        return pack_levels(levels.astype(np.uint8).ravel(), self._config.bits)

    def _levels(self, values: FloatArray) -> FloatArray:
        """Levels as float32, 0 to 2**bits - 1; NaN stays NaN."""
        with np.errstate(over="ignore"):  # an infinite quotient is clipped like any other
            steps = np.rint((values - self._zero) / self._scale)
        clipped: FloatArray = np.minimum(np.maximum(steps, np.float32(0)), self._top)
        return clipped

    def decode(self, payload: bytes) -> FloatArray:
        """Tensor of the spec. Raises DecodeError for a wrong length or padding that is not zero."""
        levels = unpack_levels(payload, self._spec.elements, self._config.bits)
        values = levels.reshape(self._spec.shape).astype(np.float32)
        return values * self._scale + self._zero


def _per_channel(values: tuple[float, ...], spec: TensorSpec, field: str) -> FloatArray:
    """Values shaped to broadcast over axis 0. Raises ConfigError when their number fits neither way."""
    channels = spec.shape[0]
    if len(values) not in {1, channels}:
        msg = f"codec affine: {field} has {len(values)} values for {channels} channels of {spec}; give 1 or {channels}"
        raise ConfigError(msg)
    full = np.full(channels, values[0]) if len(values) == 1 else np.asarray(values)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused by _check_range
        single = full.astype(np.float32)
    return single.reshape(channels, *([1] * (len(spec.shape) - 1)))


def _check_range(scale: FloatArray, zero: FloatArray, top: np.float32) -> None:
    """Raise ConfigError for steps that are not normal float32 numbers, or levels that overflow."""
    tiny = np.finfo(np.float32).tiny
    with np.errstate(over="ignore", invalid="ignore"):
        highest = scale * top + zero
    if not ((scale >= tiny) & np.isfinite(zero) & np.isfinite(highest)).all():
        msg = f"codec affine: scale must be {tiny:.3g} or more, and scale * {top:.0f} + zero must fit float32"
        raise ConfigError(msg)


def pack_levels(levels: Array, bits: int) -> bytes:
    """Pack uint8 levels below 2**bits, most significant bit first, padded with zero bits."""
    if bits == _WHOLE_BYTE:
        return levels.tobytes()
    planes = np.unpackbits(levels[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(planes.ravel()).tobytes()


def unpack_levels(payload: bytes, count: int, bits: int) -> Array:
    """Inverse of `pack_levels`. Raises DecodeError for a wrong length or padding that is not zero."""
    expected = (count * bits + 7) // 8
    if len(payload) != expected:
        msg = f"{count} levels of {bits} bits take {expected} bytes, got {len(payload)}"
        raise DecodeError(msg)
    if bits == _WHOLE_BYTE:
        return np.frombuffer(payload, dtype=np.uint8)
    stream = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
    if stream[count * bits :].any():
        msg = "the padding bits at the end of the payload are not zero"
        raise DecodeError(msg)
    planes = stream[: count * bits].reshape(count, bits)
    return np.packbits(planes, axis=1).ravel() >> (8 - bits)
