"""`bottleneck`: the integers of a head that ends in a learned low-rate layer, through the entropy coder alone.

One head serves several rates: each is a step for every channel (gain units, Cui et al. 2021), learned with the net,
and the tables that its integers were counted into on calibration samples (`cloud_worker.build.codecs.fit_bottleneck`).

Payload: the integers in C order as `entropy` codes them; nothing else.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, ValidationError

from schemas.codecs.base import Config
from schemas.codecs.entropy import EntropyCoder, Quantiser
from schemas.codecs.priors import read_prior
from schemas.codecs.tables import Tables, require_tables, table_of
from schemas.errors import ConfigError
from schemas.record import Record, explain
from schemas.tensor import Array, FloatArray, TensorSpec


class BottleneckConfig(Record):
    """The operating point: which of the rates in the tables."""

    rate: Annotated[int, Field(strict=True, ge=0, le=255)]


class Bottleneck:
    """float32[C, ...], channels first: `q = round(z / step[channel])`, decoded as `q * step[channel]`.

    Halves round away from 0; what is beyond the tables costs 16 bits more, what is beyond int16 is clipped, NaN is 0.
    """

    id: ClassVar[str] = "bottleneck"
    needs_tables: ClassVar[bool] = True

    def __init__(self, spec: TensorSpec, config: Config, tables: Tables | None = None) -> None:
        try:
            rate = BottleneckConfig.model_validate(config).rate
        except ValidationError as error:
            msg = f"codec bottleneck: {explain(error)}"
            raise ConfigError(msg) from None
        if spec.dtype != "float32":
            msg = f"codec bottleneck takes float32, the tensor is {spec}"
            raise ConfigError(msg)
        needed = require_tables(self.id, tables)
        channels, places = spec.shape[0], math.prod(spec.shape[1:])
        steps = table_of(needed, "step", "float32", (None, channels))
        index = table_of(needed, "index", "uint16", (len(steps), channels, places))
        if rate >= len(steps):
            msg = f"codec bottleneck: rate is {rate}, the tables have {len(steps)} rates; give 0 to {len(steps) - 1}"
            raise ConfigError(msg)
        self._spec = spec
        self._coder = EntropyCoder(index[rate].ravel(), read_prior(needed), _quantiser(steps[rate], places))
        self.max_payload = self._coder.max_payload

    def encode(self, array: Array) -> bytes:
        """Bytes of one tensor. Raises TensorError when it does not fit the spec."""
        return self._coder.encode(np.ascontiguousarray(self._spec.check(array)))

    def decode(self, payload: bytes) -> FloatArray:
        """Tensor of the spec. Raises DecodeError as `EntropyCoder.decode` does."""
        return self._coder.decode(payload).reshape(self._spec.shape)


def _quantiser(steps: FloatArray, places: int) -> Quantiser:
    """Raises ConfigError for a step that is not a positive normal number."""
    step = np.repeat(steps, places)
    with np.errstate(divide="ignore", over="ignore"):  # what it cannot be is refused by name below
        inverse_step = np.float32(1) / step
    same = np.ones_like(step)
    return Quantiser(inverse_step=inverse_step, offset=same * np.float32(0.5), step=step, shift=same * np.float32(0))
