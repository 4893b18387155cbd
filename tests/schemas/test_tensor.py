from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from schemas.errors import TensorError
from schemas.tensor import MAX_ELEMENTS, TensorSpec
from tests.schemas.samples import normal


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3), np.float64),
        np.zeros((2, 3), ">f4"),
        np.zeros((3, 2), np.float32),
        np.zeros((2, 3, 1), np.float32),
        np.zeros((), np.float32),
    ],
)
def test_an_array_of_another_dtype_or_shape_is_refused_with_both_named(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(TensorError, match=r"expected float32\[2, 3\]; use"):
        TensorSpec(dtype="float32", shape=(2, 3)).check(array)


def test_check_hands_the_same_array_back() -> None:
    array = normal((2, 3))
    assert TensorSpec(dtype="float32", shape=(2, 3)).check(array) is array


@pytest.mark.parametrize("shape", [(), (0,), (-1,), (65_537,), (1,) * 7, (2.5,), ("a",), (65_536, 65_536)])
def test_an_impossible_shape_is_refused(shape: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError):
        TensorSpec(dtype="float32", shape=shape)


def test_the_largest_tensor_is_allowed_and_one_row_more_is_not() -> None:
    assert TensorSpec(dtype="uint8", shape=(1024, 65_536)).elements == MAX_ELEMENTS
    with pytest.raises(ValidationError, match="the cap is 67108864"):
        TensorSpec(dtype="uint8", shape=(1025, 65_536))
