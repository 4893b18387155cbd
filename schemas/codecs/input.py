"""`input`: the raw sample as an image file, for inference that runs wholly in the cloud.

Payload: a PNG, WebP or JPEG file, nothing else. Lossless unless `quality` is given. The bytes that `encode`
makes depend on the release of the image library; what they decode to, without `quality`, does not.
"""

from __future__ import annotations

import io
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from schemas.codecs.base import Config
from schemas.errors import ConfigError, DecodeError
from schemas.image_files import LARGEST_SIDE, is_whole
from schemas.record import Record, explain
from schemas.tensor import Array, TensorSpec

_AXES, _GREY, _COLOUR = 3, 1, 3


class InputConfig(Record):
    """File format, and for a lossy one its quality on Pillow's scale of 1 to 100."""

    format: Literal["png", "webp", "jpeg"]
    quality: Annotated[int, Field(strict=True, ge=1, le=100)] | None = None

    @model_validator(mode="after")
    def _quality_fits(self) -> InputConfig:
        if self.format == "png" and self.quality is not None:
            msg = "png is lossless; leave quality out"
            raise ValueError(msg)
        if self.format == "jpeg" and self.quality is None:
            msg = "jpeg needs a quality, 1 to 100"
            raise ValueError(msg)
        return self


class Input:
    """An image codec over Pillow for uint8 samples of shape (height, width, 1 or 3)."""

    id: ClassVar[str] = "input"

    def __init__(self, spec: TensorSpec, config: Config) -> None:
        try:
            self._config = InputConfig.model_validate(config)
        except ValidationError as error:
            msg = f"codec input: {explain(error)}"
            raise ConfigError(msg) from None
        if spec.dtype != "uint8" or len(spec.shape) != _AXES or spec.shape[2] not in {_GREY, _COLOUR}:
            msg = f"codec input takes uint8[height, width, 1 or 3], the sample is {spec}"
            raise ConfigError(msg)
        largest = LARGEST_SIDE[self._config.format]
        if max(spec.shape[:2]) > largest:
            msg = f"codec input: {self._config.format} takes sides up to {largest}, the sample is {spec}; use png"
            raise ConfigError(msg)
        self._spec = spec
        self._mode = "L" if spec.shape[2] == _GREY else "RGB"
        self.max_payload = 2 * spec.nbytes + 4096

    def encode(self, array: Array) -> bytes:
        """The sample as an image file. Raises TensorError when it does not fit the spec."""
        from PIL import Image  # noqa: PLC0415 - heavy, and not every node ships inputs

        pixels = self._spec.check(array)
        image = Image.fromarray(pixels[:, :, 0] if self._mode == "L" else pixels)
        file = io.BytesIO()
        image.save(file, self._config.format.upper(), **self._save_options())
        return file.getvalue()

    def decode(self, payload: bytes) -> Array:
        """The sample. Raises DecodeError before any pixel is decoded when format or size differ."""
        from PIL import Image  # noqa: PLC0415

        if len(payload) > self.max_payload:
            msg = f"an input of {self._spec} takes at most {self.max_payload} bytes, got {len(payload)}"
            raise DecodeError(msg)
        if not is_whole(self._config.format, payload):
            msg = f"the payload is not one whole {self._config.format} file"
            raise DecodeError(msg)
        try:
            with Image.open(io.BytesIO(payload), formats=[self._config.format.upper()]) as image:
                self._check_header(image.size, image.mode, getattr(image, "n_frames", 1))
                pixels = np.array(image.convert(self._mode))
        except DecodeError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the library makes of hostile bytes
            msg = f"the payload is not a whole {self._config.format} image: {error}"
            raise DecodeError(msg) from None
        return pixels.reshape(self._spec.shape)

    def _check_header(self, size: tuple[int, int], mode: str, frames: int) -> None:
        height, width, _ = self._spec.shape
        stored = "RGB" if self._config.format == "webp" else self._mode
        if (size, mode, frames) != ((width, height), stored, 1):
            msg = (
                f"the image is {size[0]}x{size[1]} of mode {mode} with {frames} frames, "
                f"expected {width}x{height} of mode {stored} with 1"
            )
            raise DecodeError(msg)

    def _save_options(self) -> dict[str, Any]:
        quality = self._config.quality
        if self._config.format == "webp":
            effort = {"quality": 100, "lossless": True} if quality is None else {"quality": quality}
            return {**effort, "method": 6}
        return {"optimize": True} if quality is None else {"quality": quality, "optimize": True}
