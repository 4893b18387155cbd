"""A uint8 sample as one image file, at its own size or at a smaller one; over Pillow, loaded on use."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np

from schemas.errors import ConfigError, DecodeError
from schemas.image_files import Format, Size, whole_size
from schemas.tensor import Array, TensorSpec

Chroma = Literal["4:4:4", "4:2:0"]
"""Colour at every pixel, or at one in four."""
_AVIF_SPEED = 6
"""Of 0 (slowest) to 10: a 224x224 photo takes 25 to 60 ms; 0 makes it 1 % smaller in two seconds."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Samples uint8 (height, width, 1 or 3) as files of `width` x `height` pixels, which may be fewer.

    A sample is brought to that size with Lanczos' filter, and back with the bicubic one.
    """

    spec: TensorSpec
    format: Format
    quality: int | None
    """On Pillow's scale; None is lossless."""
    width: int
    height: int
    chroma: Chroma = "4:2:0"

    @property
    def max_payload(self) -> int:
        """No file is longer, in bytes: twice the pixels, and room for headers."""
        return 2 * self.width * self.height * self.spec.shape[2] + 4096

    @property
    def mode(self) -> str:
        """The sample's mode in Pillow's words."""
        return "L" if self.spec.shape[2] == 1 else "RGB"

    def encode(self, array: Array) -> bytes:
        """The sample, which is of the spec, as a file."""
        pillow = _pillow(self.format)
        whole = pillow.fromarray(array[:, :, 0] if self.mode == "L" else array)
        image = _resized(whole, self.width, self.height, pillow.Resampling.LANCZOS)
        return min((_saved(image, self.format, options) for options in self._save_options()), key=len)

    def decode(self, payload: bytes) -> Array:
        """The sample. Raises DecodeError before the library sees a file of another format or stated size."""
        pillow = _pillow(self.format)
        if len(payload) > self.max_payload:
            msg = f"an input of {self.width}x{self.height} takes at most {self.max_payload} bytes, got {len(payload)}"
            raise DecodeError(msg)
        size = whole_size(self.format, payload)
        if size is None:
            msg = f"the payload is not one whole {self.format} file"
            raise DecodeError(msg)
        self._check_size(size)
        height, width, _ = self.spec.shape
        try:
            with pillow.open(io.BytesIO(payload), formats=[self.format.upper()]) as file:
                self._check_size(file.size)
                self._check_header(file.mode, getattr(file, "n_frames", 1))
                image = _resized(file.convert(self.mode), width, height, pillow.Resampling.BICUBIC)
        except DecodeError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the library makes of hostile bytes
            msg = f"the payload is not a whole {self.format} image: {error}"
            raise DecodeError(msg) from None
        return np.array(image).reshape(self.spec.shape)

    def _check_size(self, size: Size) -> None:
        if size != (self.width, self.height):
            msg = f"the image is {size[0]}x{size[1]}, expected {self.width}x{self.height}"
            raise DecodeError(msg)

    def _check_header(self, mode: str, frames: int) -> None:
        stored = self._stored_modes()
        if mode not in stored or frames != 1:
            msg = f"the image is of mode {mode} with {frames} frames, expected {' or '.join(stored)} with 1"
            raise DecodeError(msg)

    def _stored_modes(self) -> tuple[str, ...]:
        """Modes that Pillow may report: WebP knows no grey, and AVIF's is grey from Pillow 12 on."""
        if self.format == "webp":
            return ("RGB",)
        return ("L", "RGB") if self.format == "avif" and self.mode == "L" else (self.mode,)

    def _save_options(self) -> list[dict[str, Any]]:
        """Pillow's options; of several, those of the smallest file count."""
        if self.format == "avif":
            return [{"quality": self.quality, "subsampling": self.chroma, "speed": _AVIF_SPEED, "max_threads": 1}]
        if self.format == "webp":
            effort = {"quality": 100, "lossless": True} if self.quality is None else {"quality": self.quality}
            return [{**effort, "method": 6}]
        if self.format == "png":
            return [{"optimize": True}]
        fixed = {"quality": self.quality, "subsampling": self.chroma, "optimize": True}
        return [{**fixed, "progressive": progressive} for progressive in (False, True)]


def _saved(image: Any, format_: Format, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, format_.upper(), **options)
    return file.getvalue()


def _resized(image: Any, width: int, height: int, resampling: int) -> Any:
    return image if image.size == (width, height) else image.resize((width, height), resampling)


@functools.cache
def _pillow(format_: Format) -> ModuleType:
    """Pillow's `Image`. Raises ConfigError when it is missing or cannot do the format."""
    try:
        from PIL import Image, features  # noqa: PLC0415 - heavy, and not every node ships inputs
    except ImportError:
        msg = f"codec input: the format {format_} needs Pillow; install splitbus[edge] or splitbus[cloud]"
        raise ConfigError(msg) from None
    if format_ == "avif" and not ("avif" in features.modules and features.check("avif")):
        msg = (
            f"codec input: Pillow {features.version('pil')} here has no AVIF; install Pillow's own wheel, 11.3 or newer"
        )
        raise ConfigError(msg)
    return Image
