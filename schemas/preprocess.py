"""From a raw sample to what the model takes, the same arithmetic on both sides of the wire."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field

from schemas.errors import ConfigError
from schemas.record import Record
from schemas.tensor import Array, FloatArray, TensorSpec

_AXES: Final = 3
_LARGEST: Final = 1e12
"""Keeps every quotient within float32, whatever the sample."""
Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
Divisor = Annotated[float, Field(ge=1 / _LARGEST, le=_LARGEST)]


class Preprocess(Record):
    """`(x * scale - mean) / std` for each channel, and for an image from HWC to CHW.

    Kind `image` takes uint8 (height, width, channels) and gives float32 (channels, height, width);
    kind `identity` takes float32 of any shape and leaves it alone.
    """

    kind: Literal["image", "identity"] = "image"
    scale: Number = 1.0 / 255.0
    mean: Annotated[tuple[Number, ...], Field(min_length=1, max_length=64)] = (0.0,)
    std: Annotated[tuple[Divisor, ...], Field(min_length=1, max_length=64)] = (1.0,)

    def output_spec(self, sample: TensorSpec) -> TensorSpec:
        """Spec of the model's input for samples of spec `sample`. Raises ConfigError when they do not fit."""
        if self.kind == "identity":
            if sample.dtype != "float32":
                msg = f"preprocess identity takes float32, the sample is {sample}"
                raise ConfigError(msg)
            return sample
        if sample.dtype != "uint8" or len(sample.shape) != _AXES:
            msg = f"preprocess image takes uint8[height, width, channels], the sample is {sample}"
            raise ConfigError(msg)
        height, width, channels = sample.shape
        if not {len(self.mean), len(self.std)} <= {1, channels}:
            given = f"{len(self.mean)} and {len(self.std)}"
            msg = f"preprocess: mean and std take 1 or {channels} values for {sample}, got {given}"
            raise ConfigError(msg)
        return TensorSpec(dtype="float32", shape=(channels, height, width))

    def apply(self, sample: Array) -> FloatArray:
        """The model's input for one sample, contiguous float32, without a batch dimension."""
        if self.kind == "identity":
            return np.ascontiguousarray(sample, dtype=np.float32)
        scaled = sample.astype(np.float32) * np.float32(self.scale)
        normalised = (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normalised.transpose(2, 0, 1))
