from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.errors import ConfigError
from schemas.preprocess import Preprocess
from schemas.tensor import TensorSpec
from tests.schemas.samples import COLOUR, SPEC, normal, pixels

number = st.floats(-1e12, 1e12)
divisor = st.floats(1e-12, 1e12)


def test_an_image_is_scaled_normalised_and_turned_to_channels_first() -> None:
    preprocess = Preprocess(scale=0.5, mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    image = np.full(COLOUR.shape, 10, np.uint8)
    result = preprocess.apply(image)
    assert preprocess.output_spec(COLOUR).check(result).flags.c_contiguous
    assert result[:, 0, 0].tolist() == [4.0, 1.5, 0.5]


def test_a_tensor_passes_untouched() -> None:
    preprocess = Preprocess(kind="identity")
    array = normal(SPEC.shape)
    assert preprocess.output_spec(SPEC) == SPEC
    assert preprocess.apply(array).tobytes() == array.tobytes()


@given(number, number, divisor)
def test_no_setting_makes_anything_but_finite_numbers(scale: float, mean: float, std: float) -> None:
    result = Preprocess(scale=scale, mean=(mean,), std=(std,)).apply(pixels(COLOUR.shape))
    assert np.isfinite(result).all()


@pytest.mark.parametrize(
    ("preprocess", "sample"),
    [
        (Preprocess(), SPEC),
        (Preprocess(), TensorSpec(dtype="uint8", shape=(6, 7))),
        (Preprocess(mean=(0.0, 0.0)), COLOUR),
        (Preprocess(std=(1.0,) * 4), COLOUR),
        (Preprocess(kind="identity"), COLOUR),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_with_its_spec(preprocess: Preprocess, sample: TensorSpec) -> None:
    with pytest.raises(ConfigError, match=str(sample.dtype)):
        preprocess.output_spec(sample)


@pytest.mark.parametrize(
    "fields",
    [
        {"std": (0.0,)},
        {"std": (-1.0,)},
        {"std": ()},
        {"std": (1e-30,)},
        {"mean": ()},
        {"mean": (float("inf"),)},
        {"scale": float("nan")},
        {"scale": 1e300},
        {"kind": "audio"},
        {"mena": (0.0,)},
    ],
)
def test_a_setting_out_of_range_or_misspelt_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        Preprocess.model_validate(fields)
