"""What a model is measured on, and how: the samples and the settings of `measure`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cloud_worker.build.point_leakage import Dealt
from schemas.errors import ConfigError
from schemas.preprocess import Preprocess
from schemas.tensor import Array, FloatArray

_LEAST: Final = 2
_IMAGE_AXES: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """The same samples as the source gives them: uint8 (N, height, width, 1 or 3)."""

    calibration: Array
    held_out: Array
    preprocess: Preprocess
    """Makes a model's input of one."""


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Two sets of samples without a sample in common, as the model takes them. Raises ConfigError for what is none."""

    calibration: FloatArray
    """float32 (N, ...): fits tables and ranges."""
    held_out: FloatArray
    """float32 (M, ...): everything is measured on these, and levels are found on them."""
    labels: NDArray[np.int64] | None = None
    """(M,), the classes of the held-out samples; without them no accuracy is measured."""
    images: Images | None = None
    """None for samples that are no images: they are then shipped whole by zstd."""

    def __post_init__(self) -> None:
        for name, samples in (("calibration", self.calibration), ("held-out", self.held_out)):
            if samples.dtype != np.float32 or len(samples) < _LEAST or not np.isfinite(samples).all():
                found = f"{samples.dtype}{list(samples.shape)}"
                msg = f"the {name} samples are {found}; give at least {_LEAST} of finite float32 (N, ...)"
                raise ConfigError(msg)
        if self.calibration.shape[1:] != self.held_out.shape[1:]:
            given = f"{list(self.calibration.shape)} and {list(self.held_out.shape)}"
            msg = f"calibration and held-out samples differ in shape: {given}; prepare both alike"
            raise ConfigError(msg)
        if self.labels is not None and self.labels.shape != (len(self.held_out),):
            msg = (
                f"the labels are {list(self.labels.shape)}; give one for each of {len(self.held_out)} held-out samples"
            )
            raise ConfigError(msg)
        if self.images is not None:
            _check_images(self.images, len(self.calibration), len(self.held_out))

    @property
    def samples(self) -> Dealt:
        """As the source gives them: the images, or else what the model takes."""
        source = self if self.images is None else self.images
        return Dealt(source.calibration, source.held_out)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is measured; the defaults are those of a build."""

    model: str
    """Its name in the profile."""
    targets: tuple[float, ...] = (0.02, 0.05, 0.1)
    """KL divergence of the output, nats, that levels of codec `transform` are searched for."""
    qualities: dict[str, tuple[int, ...]] = field(default_factory=lambda: {"webp": (80, 50, 20), "avif": (70, 50, 30)})
    """Of the image files that cloud-only ships, beside a lossless WebP; a format that is not installed is left out."""
    leakage: bool = True
    """Also measure what payloads show of the samples, of a few hundred of them; False leaves it out."""
    threads: int = 1
    """Of torch, while the clock runs: processor time on one thread, the wall's clock on more."""
    clock_s: float = 0.25
    """Least time of each measurement by the clock, seconds."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.targets or min(self.targets) <= 0 or self.threads < 1 or self.clock_s < 0:
            msg = f"{self.targets}, {self.threads} threads, {self.clock_s:g} s: targets and threads are above 0"
            raise ConfigError(msg)


def _check_images(images: Images, calibration: int, held_out: int) -> None:
    for samples, count in ((images.calibration, calibration), (images.held_out, held_out)):
        fits = samples.dtype == np.uint8 and samples.ndim == _IMAGE_AXES and samples.shape[3] in {1, 3}
        if not fits or len(samples) != count:
            found: Any = f"{samples.dtype}{list(samples.shape)}"
            msg = f"the images are {found}; give uint8[{count}, height, width, 1 or 3], the same samples in order"
            raise ConfigError(msg)
