"""What a tensor looks like: dtype, shape, and whether an array is one."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from schemas.errors import TensorError
from schemas.record import Record

DType = Literal["float32", "uint8", "int8"]
Dimension = Annotated[int, Field(ge=1, le=65_536)]
MAX_ELEMENTS = 1 << 26
"""The most elements a spec may state: 256 MiB of float32."""

_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in get_args(DType)}

Array = NDArray[Any]
FloatArray = NDArray[np.float32]


class TensorSpec(Record):
    """Dtype and shape of one sample's tensor, without a batch dimension."""

    dtype: DType
    shape: Annotated[tuple[Dimension, ...], Field(min_length=1, max_length=6)]

    @model_validator(mode="after")
    def _small_enough(self) -> Self:
        if self.elements > MAX_ELEMENTS:
            msg = f"{self} has {self.elements} elements, the cap is {MAX_ELEMENTS}"
            raise ValueError(msg)
        return self

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the raw tensor."""
        return self.elements * _DTYPES[self.dtype].itemsize

    def check(self, array: Array, what: str = "tensor") -> Array:
        """Return `array` as it is. Raises TensorError when dtype or shape differ from the spec."""
        if array.dtype != _DTYPES[self.dtype] or array.shape != self.shape:
            msg = (
                f"{what} is {array.dtype}{list(array.shape)}, expected {self}; "
                "use the bundle and the preprocessing that belong together"
            )
            raise TensorError(msg)
        return array

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"
