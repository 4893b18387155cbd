"""`input`: the raw sample as an image file or a compressed array, for inference that runs wholly in the cloud.

Payload: a PNG, WebP, JPEG or AVIF file, or one Zstandard frame, and nothing else. The bytes that `encode` makes
depend on the release of the library; what they decode to, without `quality`, does not.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, ValidationError, model_validator

from schemas.codecs.base import Config
from schemas.codecs.tables import Tables, refuse_tables
from schemas.errors import ConfigError
from schemas.image_files import LARGEST_SIDE, Format
from schemas.pictures import Chroma, Picture
from schemas.record import Record, explain
from schemas.tensor import Array, TensorSpec
from schemas.zstd_frames import ZstdFrame

_AXES, _GREY, _COLOUR = 3, 1, 3
_LOSSLESS: Final = frozenset({"png", "zstd"})
_LOSSY: Final = frozenset({"jpeg", "avif"})

Side = Annotated[int, Field(strict=True, ge=1)]


class InputConfig(Record):
    """File format; for a lossy one its quality, and for an image the size at which it travels."""

    format: Literal["png", "webp", "jpeg", "avif", "zstd"]
    quality: Annotated[int, Field(strict=True, ge=0, le=100)] | None = None
    """On Pillow's scale: 1 to 100, for AVIF 0 to 100."""
    shrink: tuple[Side, Side] | None = None
    """Height and width to which the sample is brought before it is encoded, and from which it is brought back."""

    chroma: Chroma = "4:2:0"
    """How finely a lossy JPEG or AVIF keeps colour; photos of fine colour detail may need 4:4:4."""

    @property
    def lossless(self) -> bool:
        """Whether every sample comes back as it was: a payload then shows all of it."""
        return self.quality is None and self.shrink is None

    @model_validator(mode="after")
    def _quality_fits(self) -> InputConfig:
        if self.format in _LOSSLESS and self.quality is not None:
            msg = f"{self.format} is lossless; leave quality out"
            raise ValueError(msg)
        least = 0 if self.format == "avif" else 1
        if self.format in _LOSSY if self.quality is None else self.quality < least:
            msg = f"{self.format} needs a quality, {least} to 100"
            raise ValueError(msg)
        if self.format not in _LOSSY and self.chroma != "4:2:0":
            msg = f"{self.format} has no choice of chroma; leave it out"
            raise ValueError(msg)
        if self.format == "zstd" and self.shrink is not None:
            msg = "zstd keeps every value; leave shrink out, or choose an image format"
            raise ValueError(msg)
        return self


class Input:
    """Images over Pillow for uint8 samples of shape (height, width, 1 or 3); zstd for every sample.

    The libraries are loaded on first use: ConfigError when one is missing or cannot do the format.
    """

    id: ClassVar[str] = "input"
    needs_tables: ClassVar[bool] = False

    def __init__(self, spec: TensorSpec, config: Config, tables: Tables | None = None) -> None:
        refuse_tables(self.id, tables)
        try:
            settings = InputConfig.model_validate(config)
        except ValidationError as error:
            msg = f"codec input: {explain(error)}"
            raise ConfigError(msg) from None
        self._spec = spec
        self._file = ZstdFrame(spec) if settings.format == "zstd" else _picture(spec, settings.format, settings)
        self.max_payload = self._file.max_payload

    def encode(self, array: Array) -> bytes:
        """The sample as a file. Raises TensorError when it does not fit the spec."""
        return self._file.encode(self._spec.check(array))

    def decode(self, payload: bytes) -> Array:
        """The sample. Raises DecodeError before anything is decoded when format or size differ."""
        return self._file.decode(payload)


def _picture(spec: TensorSpec, format_: Format, settings: InputConfig) -> Picture:
    """Raises ConfigError for a sample that is no picture, or a size that the format or the sample cannot have."""
    if spec.dtype != "uint8" or len(spec.shape) != _AXES or spec.shape[2] not in {_GREY, _COLOUR}:
        msg = f"codec input takes uint8[height, width, 1 or 3] for {format_}, the sample is {spec}; use zstd"
        raise ConfigError(msg)
    height, width = settings.shrink or spec.shape[:2]
    if height > spec.shape[0] or width > spec.shape[1]:
        msg = f"codec input: shrink is [{height}, {width}], more than the sample {spec}; give a smaller size"
        raise ConfigError(msg)
    largest = LARGEST_SIDE[format_]
    if max(height, width) > largest:
        msg = f"codec input: {format_} takes sides up to {largest}, the sample is {spec}; use png"
        raise ConfigError(msg)
    return Picture(spec, format_, settings.quality, width=width, height=height, chroma=settings.chroma)
