from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from schemas.codecs.input import Input
from schemas.errors import DecodeError
from schemas.tensor import TensorSpec
from tests.schemas.samples import COLOUR, pixels

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "png"},
    "webp": {"format": "webp", "quality": 90},
    "webp_lossless": {"format": "webp"},
    "jpeg": {"format": "jpeg", "quality": 90},
    "avif": {"format": "avif", "quality": 90},
}
formats = pytest.mark.parametrize("config", FORMATS.values(), ids=FORMATS)


def ramp(shape: tuple[int, int, int]) -> Any:
    """Brightness that rises evenly from one corner to the other."""
    steps = np.indices(shape)[:2].sum(axis=0)
    return (steps * 200 // steps.max() + 20).astype(np.uint8)


@formats
@pytest.mark.parametrize("colours", [1, 3])
def test_a_smooth_picture_comes_back_at_its_own_size(config: dict[str, Any], colours: int) -> None:
    spec = TensorSpec(dtype="uint8", shape=(64, 48, colours))
    codec = Input(spec, {**config, "shrink": [16, 24]})
    array = ramp(spec.shape)
    again = codec.decode(codec.encode(array))
    assert again.shape == spec.shape
    assert np.abs(again.astype(int) - array.astype(int)).mean() < 4


@formats
def test_the_file_has_the_smaller_size_and_fewer_bytes(config: dict[str, Any]) -> None:
    spec = TensorSpec(dtype="uint8", shape=(64, 48, 3))
    array = pixels(spec.shape)
    whole, small = Input(spec, config), Input(spec, {**config, "shrink": [16, 24]})
    payload = small.encode(array)
    with Image.open(io.BytesIO(payload)) as image:
        assert image.size == (24, 16)
    assert len(payload) < len(whole.encode(array))
    assert small.max_payload == 2 * 16 * 24 * 3 + 4096 < whole.max_payload


@formats
def test_a_file_of_the_samples_own_size_is_refused(config: dict[str, Any]) -> None:
    whole = Input(COLOUR, config).encode(pixels(COLOUR.shape))
    with pytest.raises(DecodeError, match="the image is 7x6, expected 5x3"):
        Input(COLOUR, {**config, "shrink": [3, 5]}).decode(whole)


def test_the_samples_own_size_changes_nothing() -> None:
    array = pixels(COLOUR.shape)
    plain, same = Input(COLOUR, {"format": "png"}), Input(COLOUR, {"format": "png", "shrink": [6, 7]})
    assert same.encode(array) == plain.encode(array)
    assert same.decode(plain.encode(array)).tobytes() == array.tobytes()


def test_a_sample_too_wide_for_a_format_may_travel_smaller() -> None:
    spec = TensorSpec(dtype="uint8", shape=(1, 20_000, 1))
    codec = Input(spec, {"format": "webp", "shrink": [1, 1000]})
    assert codec.decode(codec.encode(np.zeros(spec.shape, np.uint8))).shape == spec.shape
