"""The trivial rivals of split inference: the input itself as an image file, whole or made smaller, and no head at all.

They are settings of the codec `input`, whose payload is the file; the unsplit model answers to what comes out of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.rate_curves import refined
from benchmarks.rate_points import Measured, kl_curve
from schemas.codecs import Codec, open_codec
from schemas.tensor import TensorSpec

LOSSY = ("jpeg", "webp", "avif")
CHROMAS = {"jpeg": ("4:2:0", "4:4:4"), "avif": ("4:2:0", "4:4:4")}
"""Where there is a choice; lossy WebP always halves colour."""
_MARGIN = 1.5
"""Points are wanted this factor beyond the outermost targets too."""
_NEAR = 1.15
"""A way is measured on all samples when it takes at most this many times the bytes of the best one."""


class Rival(NamedTuple):
    """One way to send the input."""

    format: str
    side: int
    """Height and width at which it travels."""
    quality: int | None = None
    chroma: str | None = None
    """None for the format's only way, or its default."""

    def codec(self, sample: TensorSpec) -> Codec:
        """The codec `input` for square samples."""
        config: dict[str, Any] = {"format": self.format}
        if self.quality is not None:
            config["quality"] = self.quality
        if self.chroma is not None:
            config["chroma"] = self.chroma
        if self.side != sample.shape[0]:
            config["shrink"] = [self.side, self.side]
        return open_codec("input", sample, config)

    def setting(self) -> dict[str, Any]:
        """Columns of a row."""
        return {"format": self.format, "side": self.side, "quality": self.quality, "chroma": self.chroma}


class Way(NamedTuple):
    """How a format sends an image at any quality: a curve of its own."""

    side: int
    chroma: str | None


class Family(NamedTuple):
    """One format's points, by way."""

    scouts: dict[Way, list[Measured]]
    """Every way and quality, on some of the samples."""
    whole: dict[Way, list[Measured]]
    """The ways that come near the best one, with qualities about the targets, on all samples."""

    def points(self) -> list[Measured]:
        """All of them, each setting once: on all samples where it was measured on all."""
        whole = [point for points in self.whole.values() for point in points]
        known = [point.setting for point in whole]
        return whole + [point for points in self.scouts.values() for point in points if point.setting not in known]


class Grid(NamedTuple):
    """Where a format is looked at first."""

    format: str
    sides: Sequence[int]
    qualities: Sequence[int]
    """Ascending."""

    @property
    def ways(self) -> list[Way]:
        """Every size, with each kind of chroma that the format has."""
        return [Way(side, chroma) for side in self.sides for chroma in CHROMAS.get(self.format, (None,))]


Measure = Callable[[Rival, int], Measured]
"""Measures a rival on each sample whose number is a multiple of the second argument."""


def search(grid: Grid, targets: Sequence[float], measure: Measure, every: int) -> Family:
    """Find what a format needs for each target KL, without measuring every size and quality on every sample.

    The whole grid is measured on one sample in `every`.
    """
    scouts = {
        way: [measure(Rival(grid.format, way.side, quality, way.chroma), every) for quality in grid.qualities]
        for way in grid.ways
    }
    wide = [max(targets) * _MARGIN, *targets, min(targets) / _MARGIN]
    whole = {}
    for way in contenders(scouts, targets):
        losses = [float(point.kl.mean()) for point in scouts[way]]
        chosen = refined(grid.qualities, losses, wide)
        whole[way] = [measure(Rival(grid.format, way.side, quality, way.chroma), 1) for quality in chosen]
    return Family(scouts, whole)


def contenders(scouts: Mapping[Way, Sequence[Measured]], targets: Sequence[float]) -> list[Way]:
    """Ways that, for one target at least, come near the least bytes of all; all when none gets there."""
    near: set[Way] = set()
    for target in targets:
        needs = {way: kl_curve(points).bytes_at(target) for way, points in scouts.items()}
        best = min((need for need in needs.values() if math.isfinite(need)), default=math.nan)
        near |= {way for way, need in needs.items() if need <= _NEAR * best or math.isnan(need)}
    return [way for way in scouts if way in near] or list(scouts)
