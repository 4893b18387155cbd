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
_MARGIN = 1.5
"""Points are wanted this factor beyond the outermost targets too."""
_NEAR = 1.15
"""A size is measured on all samples when it takes at most this many times the bytes of the best one."""


class Rival(NamedTuple):
    """One way to send the input."""

    format: str
    side: int
    """Height and width at which it travels."""
    quality: int | None = None

    def codec(self, sample: TensorSpec) -> Codec:
        """The codec `input` for square samples."""
        config: dict[str, Any] = {"format": self.format}
        if self.quality is not None:
            config["quality"] = self.quality
        if self.side != sample.shape[0]:
            config["shrink"] = [self.side, self.side]
        return open_codec("input", sample, config)

    def setting(self) -> dict[str, Any]:
        """Columns of a row."""
        return {"format": self.format, "side": self.side, "quality": self.quality}


class Family(NamedTuple):
    """One format's points, by size."""

    scouts: dict[int, list[Measured]]
    """Every size and quality, on some of the samples."""
    whole: dict[int, list[Measured]]
    """The sizes that come near the best one, with qualities about the targets, on all samples."""

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


Measure = Callable[[Rival, int], Measured]
"""Measures a rival on each sample whose number is a multiple of the second argument."""


def search(grid: Grid, targets: Sequence[float], measure: Measure, every: int) -> Family:
    """Find what a format needs for each target KL, without measuring every size and quality on every sample.

    The whole grid is measured on one sample in `every`.
    """
    scouts = {
        side: [measure(Rival(grid.format, side, quality), every) for quality in grid.qualities] for side in grid.sides
    }
    wide = [max(targets) * _MARGIN, *targets, min(targets) / _MARGIN]
    whole = {}
    for side in contenders(scouts, targets):
        losses = [float(point.kl.mean()) for point in scouts[side]]
        chosen = refined(grid.qualities, losses, wide)
        whole[side] = [measure(Rival(grid.format, side, quality), 1) for quality in chosen]
    return Family(scouts, whole)


def contenders(scouts: Mapping[int, Sequence[Measured]], targets: Sequence[float]) -> list[int]:
    """Sizes that, for one target at least, come near the least bytes of all sizes; all when none gets there."""
    near: set[int] = set()
    for target in targets:
        needs = {side: kl_curve(points).bytes_at(target) for side, points in scouts.items()}
        best = min((need for need in needs.values() if math.isfinite(need)), default=math.nan)
        near |= {side for side, need in needs.items() if need <= _NEAR * best or math.isnan(need)}
    return [side for side in scouts if side in near] or list(scouts)
