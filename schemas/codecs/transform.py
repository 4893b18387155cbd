"""`transform`: a training-free code for the tensors inside a network, fitted on samples that need no labels.

DCT over space; for each band of frequencies a channel transform that takes what the output of the model feels first
(the Karhunen-Loeve transform of F^1/2 S F^1/2, with S the covariance and F the Fisher information of the channels);
steps in units of that information; static tables by how large a coefficient usually is; rANS. The fit is
`cloud_worker.build.codecs.fit_transform`. One file of tables serves every rate: an operating point is nothing but a
level.

Payload: the coefficients' levels as `entropy` codes them, frequency by frequency, row by row; nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, ClassVar, Final, NamedTuple, Protocol

import numpy as np
from pydantic import Field, ValidationError

from schemas.codecs import transform_python
from schemas.codecs.base import Config
from schemas.codecs.entropy import EntropyCoder, Quantiser
from schemas.codecs.priors import read_prior
from schemas.codecs.tables import Tables, require_tables, table_of
from schemas.errors import ConfigError
from schemas.record import Record, explain
from schemas.tensor import Array, FloatArray, TensorSpec

LEVELS_AN_OCTAVE: Final = 4
FINEST, COARSEST = -12, 24
"""The levels that there are; what no level would code is not in the tables."""
_OCTAVE: Final = np.array([1.0, 2**0.25, 2**0.5, 2**0.75]).astype(np.float32)
_AXES: Final = 3
_FLOAT32: Final = np.dtype(np.float32)
_LARGEST_LEVEL: Final = 32_768.0


class TransformConfig(Record):
    """The operating point: each level makes every step 2**(1/4) times as large, 0 is where the fit put it."""

    level: Annotated[int, Field(strict=True, ge=FINEST, le=COARSEST)] = 0


class Basis(NamedTuple):
    """The linear part of the tables, the same for all levels, in the order that `transform_python.Transform` takes."""

    sizes: transform_python.Sizes
    mean: FloatArray
    """float32[C]"""
    rows: FloatArray
    """float32[U, ceil(H / 2)]: the first halves of the DCT's vectors over height."""
    columns: FloatArray
    """float32[V, ceil(W / 2)]"""
    forward: FloatArray
    """float32[B, C, K]"""
    inverse: FloatArray
    """float32[B, K, C]"""
    band: Array
    """uint8[U, V]"""


class Transform:
    """float32[C, H, W] through a fitted transform. Every platform makes the same bytes, and the same tensor of them.

    A value that is not finite makes a payload that decodes to a finite tensor of no meaning.
    """

    id: ClassVar[str] = "transform"
    needs_tables: ClassVar[bool] = True

    def __init__(self, spec: TensorSpec, config: Config, tables: Tables | None = None) -> None:
        try:
            level = TransformConfig.model_validate(config).level
        except ValidationError as error:
            msg = f"codec transform: {explain(error)}"
            raise ConfigError(msg) from None
        if spec.dtype != "float32" or len(spec.shape) != _AXES:
            msg = f"codec transform takes float32[channels, height, width], the tensor is {spec}"
            raise ConfigError(msg)
        needed = require_tables(self.id, tables)
        basis = _basis(spec, needed)
        spread = _spread(basis, needed) - level
        coded = np.logical_and.accumulate(spread >= 0, axis=2)
        kept = coded.sum(axis=2).astype(np.uint16)
        self._spec, self._count = spec, int(kept.sum())
        if not self._count:
            msg = f"codec transform: at level {level} nothing is left of the tensor; give a lower level"
            raise ConfigError(msg)
        self._transform = _backend()(*basis, kept)
        prior, quantiser = read_prior(needed), _quantiser(basis, needed, kept, level)
        _check_range(basis, quantiser)
        index = np.minimum(spread[coded], len(prior) - 1).astype(np.uint16)
        self._coder = EntropyCoder(index, prior, quantiser)
        self.max_payload = self._coder.max_payload

    def encode(self, array: Array) -> bytes:
        """Bytes of one tensor. Raises TensorError when it does not fit the spec."""
        values = np.empty(self._count, _FLOAT32)
        try:
            self._transform.forward(array, values)
        except (BufferError, ValueError):  # not the tensor, or not in one piece
            self._transform.forward(np.ascontiguousarray(self._spec.check(array)), values)
        return self._coder.encode(values)

    def decode(self, payload: bytes) -> FloatArray:
        """Tensor of the spec. Raises DecodeError as `EntropyCoder.decode` does, before the tensor is made."""
        values = self._coder.decode(payload)
        tensor = np.empty(self._spec.shape, _FLOAT32)
        self._transform.inverse(values, tensor)
        return tensor


class _Arithmetic(Protocol):
    def forward(self, x: FloatArray, y: FloatArray, /) -> None: ...
    def inverse(self, y: FloatArray, x: FloatArray, /) -> None: ...


def _backend() -> Callable[..., _Arithmetic]:
    if os.environ.get("SPLITBUS_PURE_PYTHON") == "1":
        return transform_python.Transform
    try:
        from schemas.codecs._transform import Transform as Compiled  # noqa: PLC0415 - where it was compiled
    except ImportError:
        return transform_python.Transform
    return Compiled


def _basis(spec: TensorSpec, tables: Tables) -> Basis:
    channels, height, width = spec.shape
    rows = _finite(tables, "rows", (None, (height + 1) // 2))
    columns = _finite(tables, "columns", (None, (width + 1) // 2))
    forward = _matrices(tables, "forward", (None, channels, None))
    bands, _, components = forward.shape
    if components > channels:
        msg = f"codec transform: {components} components of {channels} channels; calibrate the codec again"
        raise ConfigError(msg)
    band = table_of(tables, "band", "uint8", (len(rows), len(columns)))
    if len(rows) > height or len(columns) > width or band.max() >= bands:
        msg = f"codec transform: {len(rows)} rows, {len(columns)} columns, band {band.max()} of {bands} for {spec}"
        raise ConfigError(msg + "; calibrate the codec again")
    return Basis(
        transform_python.Sizes(channels, height, width, len(rows), len(columns), bands, components),
        _finite(tables, "mean", (channels,)),
        rows,
        columns,
        forward,
        _matrices(tables, "inverse", (bands, components, channels)),
        band,
    )


def _matrices(tables: Tables, name: str, shape: tuple[int | None, ...]) -> FloatArray:
    """Stored as int16 with a scale for each band."""
    stored = table_of(tables, name, "int16", shape)
    scale = _finite(tables, f"{name}_scale", (len(stored),))
    return stored.astype(np.float32) * scale[:, None, None]


def _finite(tables: Tables, name: str, shape: tuple[int | None, ...]) -> FloatArray:
    array = table_of(tables, name, "float32", shape)
    if not (np.abs(array) < np.float32(1 << 16)).all():
        msg = f"codec transform: table {name} has values that are not finite or over 2**16; calibrate the codec again"
        raise ConfigError(msg)
    return array


def _spread(basis: Basis, tables: Tables) -> Array:
    """int64[U, V, K]: the table of every coefficient at level 0, below 0 where it is not worth coding."""
    sizes = basis.sizes
    of_component = table_of(tables, "spread_component", "int16", (sizes.bands, sizes.components)).astype(np.int64)
    of_frequency = table_of(tables, "spread_frequency", "int16", (sizes.rows, sizes.columns)).astype(np.int64)
    return of_component[basis.band] + of_frequency[:, :, None]


def _quantiser(basis: Basis, tables: Tables, kept: Array, level: int) -> Quantiser:
    """Steps of equal worth to the output: the level's step over the weight of the frequency."""
    weight = _finite(tables, "weight", (basis.sizes.rows, basis.sizes.columns))
    first, offset, shift = (float(value) for value in _finite(tables, "quantiser", (3,)))
    if not ((weight > 0).all() and first > 0):
        msg = "codec transform: table weight and the step of table quantiser must be above 0; calibrate again"
        raise ConfigError(msg)
    octaves, rest = divmod(level, LEVELS_AN_OCTAVE)
    step = np.float32(first) * _OCTAVE[rest] * np.float32(2.0**octaves)
    each = np.repeat(weight.ravel(), kept.ravel())
    same = np.ones_like(each)
    return Quantiser(
        inverse_step=each / step, offset=same * np.float32(offset), step=step / each, shift=same * np.float32(shift)
    )


def _check_range(basis: Basis, quantiser: Quantiser) -> None:
    """Raise ConfigError for tables that could decode to what float32 does not hold, whose bits differ by machine."""

    def longest(vectors: Array) -> float:
        """The largest sum of absolute values along the first axis."""
        return float(np.abs(vectors.astype(np.float64)).sum(axis=0).max())

    coefficient = _LARGEST_LEVEL * float(quantiser.step.astype(np.float64).max())
    channels = coefficient * max(longest(matrix) for matrix in basis.inverse)
    largest = channels * longest(basis.rows) * longest(basis.columns) + float(np.abs(basis.mean).max())
    if largest > float(np.finfo(np.float32).max) / 2:
        msg = f"codec transform: its tables decode to values up to {largest:.2g}, beyond float32; calibrate again"
        raise ConfigError(msg)
