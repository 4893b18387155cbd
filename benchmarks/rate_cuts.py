"""One cut of EfficientNet-Lite0: each codec's bytes for its tensor, what the output loses, and what coding takes.

The calibration crops fit the tables and the ranges; the test crops are measured and choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.rate_net import Crops, Unsplit
from benchmarks.rate_points import Measured, Reference, log_softmax, through
from benchmarks.rate_times import PartTimes, codec_ms, part_times
from cloud_worker.build.codecs.fit_transform import fit
from models.efficientnet_lite0 import nets
from schemas.codecs import Codec, Config, open_codec
from schemas.codecs.transform import COARSEST, FINEST
from schemas.tensor import TensorSpec

NAME = "efficientnet_lite0"
TARGETS = (0.1, 0.05, 0.02)
"""KL of the output, nats."""
AFFINE_BITS = (6, 4)
_STRIDE = 2
_FURTHEST = COARSEST
_MARGIN = 1.5
"""Levels are wanted until KL is this factor beyond the outermost targets."""
_MOST_DRAWS = 8
_MOST_GRADIENTS = 1 << 27
"""Values: fewer draws where the tensor is large, so that fitting stays within 4 GB."""
_TIMED = 16
_TAILS = (0.05, 99.95)
"""Percentiles of one calibration crop in _SOME that are each channel's range for codec `affine`."""
_SOME = 4


def about_targets(measure: Callable[[int], Measured]) -> dict[int, Measured]:
    """Levels from fine to coarse, in strides from 0 as far as it takes to have every target well between them."""
    found = {0: measure(0)}
    fine, coarse = min(TARGETS) / _MARGIN, max(TARGETS) * _MARGIN
    while max(found) < _FURTHEST and found[max(found)].kl.mean() < coarse:
        found[max(found) + _STRIDE] = measure(max(found) + _STRIDE)
    while min(found) > FINEST and found[min(found)].kl.mean() > fine:
        found[min(found) - _STRIDE] = measure(min(found) - _STRIDE)
    return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class CutPoints:
    """Everything that was measured at one cut."""

    cut: int
    macs_share: float
    spec: TensorSpec
    times: PartTimes
    ladder: list[Measured]
    """The baselines."""
    transform: list[Measured]
    """From the most bytes to the fewest."""
    codec_times: list[dict[str, float]]
    """Of ladder and transform, in this order."""

    def rows(self) -> list[dict[str, Any]]:
        """A row for each codec and setting."""
        same = {"model": NAME, "cut": self.cut, "macs_share": self.macs_share, **self.times.row()}
        points = [*self.ladder, *self.transform]
        return [{**same, **point.row(), **took} for point, took in zip(points, self.codec_times, strict=True)]


class Cut:
    """One cut of the net, its activations on the test crops, and the codecs for them."""

    def __init__(self, unsplit: Unsplit, crops: Crops, reference: Reference, cut: int) -> None:
        self._head, self._tail = unsplit.halves(cut)
        self._cut, self._unsplit, self._reference = cut, unsplit, reference
        fitted = unsplit.run(self._head, crops.calibration)
        self._tensors = unsplit.run(self._head, crops.test)
        self._image = torch.from_numpy(nets.PREPROCESS.apply(crops.test[0])[None])
        self.spec = TensorSpec(dtype="float32", shape=self._tensors.shape[1:])
        self._ranges = np.percentile(fitted[::_SOME], _TAILS, axis=(0, 2, 3))
        draws = max(1, min(_MOST_DRAWS, _MOST_GRADIENTS // fitted.size))
        self._tables = fit(torch.from_numpy(fitted), unsplit.gradients(self._tail, fitted, draws))

    def transform(self, level: int) -> Codec:
        """The fitted codec at a level."""
        return open_codec("transform", self.spec, {"level": level}, self._tables)

    def affine(self, bits: int) -> Config:
        """Codec `affine` over each channel's calibrated range."""
        low, high = self._ranges
        scale = np.maximum(high - low, 1e-6) / (2**bits - 1)
        return {"bits": bits, "scale": scale.tolist(), "zero": low.tolist()}

    def measure(self, codec: Codec, setting: dict[str, Any]) -> Measured:
        """The tail's answers to what arrives."""
        arrived = through(codec, self._tensors)
        logs = log_softmax(self._unsplit.run(self._tail, arrived.arrays))
        return self._reference.judge(codec.id, setting, arrived.sizes, logs)

    def measure_all(self, model: bytes | None) -> CutPoints:
        """The baselines, and the transform at levels about the targets; then the clock, by itself.

        `model` is the head as TFLite where there is one.
        """
        ladder = {"minmax_u8": open_codec("minmax_u8", self.spec, {})}
        ladder |= {f"{bits} bits": open_codec("affine", self.spec, self.affine(bits)) for bits in AFFINE_BITS}
        measured = [self.measure(codec, {"setting": name}) for name, codec in ladder.items()]
        found = about_targets(lambda level: self.measure(self.transform(level), {"setting": f"level {level}"}))
        codecs = [*ladder.values(), *(self.transform(level) for level in found)]
        took = [codec_ms(codec, self._tensors[:_TIMED]) for codec in codecs]
        times = part_times(self._head, self._tail, self._image, model)
        return CutPoints(
            self._cut, self._unsplit.macs_share(self._cut), self.spec, times, measured, list(found.values()), took
        )
