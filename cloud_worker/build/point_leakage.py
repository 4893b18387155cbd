"""What operating points leak: the attacker of `leakage` on payloads as a worker decodes them, at bounded cost.

At most 400 samples to fit the attacker to and 200 to measure it on, unless said otherwise, spread evenly; images
brought to 32x32 pixels at most, other samples to 4,096 of their values. All points of a model get the same number, so
that they compare. A few seconds a point, most of it for large tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cloud_worker.build.leakage import LEAST, measure
from schemas.bundle import Manifest
from schemas.codecs import Codec
from schemas.errors import ConfigError
from schemas.leakage import Leakage
from schemas.tensor import Array

MOST: Final = (400, 200)
"""Samples that an attacker is fitted to, and those that it is measured on."""
_SIDE: Final = 32
_VALUES: Final = 4096
_LEAST_HELD_OUT: Final = 2
_IMAGE_AXES: Final = 4
_DIGITS: Final = 4
"""After the point: so that the same samples give the same record wherever they are measured."""


class Dealt(NamedTuple):
    """The same kind of thing of two sets of samples that have none in common."""

    calibration: Array
    """(N, ...)"""
    held_out: Array
    """(M, ...)"""


def point_leakage(
    codec: Codec, tensors: Dealt, samples: Dealt, *, most: tuple[int, int] = MOST, seed: int = 0
) -> Leakage | None:
    """What the codec's payloads show of the samples; None for fewer than 4 calibration or 2 held-out samples.

    `tensors` is what is encoded, sample by sample: the cut's activations, or the samples themselves. `samples` are as
    the source gives them: uint8 (N, height, width, channels) for images, anything else for signals and vectors. Where
    payloads decode to arrays like the samples, these are looked at as they are, too, so that a lossless codec of the
    input has an SSIM of exactly 1.

    `most` is how many of both parts are used. Under 100 calibration samples the figures bound nothing; `samples` in the
    record says so. Raises ConfigError for tensors and samples that are not equally many, and for what is not finite.
    """
    _check_paired(tensors, samples)
    if len(samples.calibration) < LEAST or len(samples.held_out) < _LEAST_HELD_OUT:
        return None
    originals = _few(samples, most)
    arrived = Dealt(*(_through(codec, part) for part in _few(tensors, most)))
    known, unseen = (_seen(part) for part in originals)
    alike = arrived.held_out.dtype == originals.held_out.dtype and arrived.held_out.shape == originals.held_out.shape
    found = measure(
        known,
        _tensor(arrived.calibration),
        unseen,
        _tensor(arrived.held_out),
        images=_is_image(originals.held_out),
        shown=_seen(arrived.held_out) if alike else None,
        seed=seed,
    )
    figures = found.model_dump().items()
    return Leakage(**{name: round(each, _DIGITS) if isinstance(each, float) else each for name, each in figures})


def points_leakage(
    manifest: Manifest, codecs: Mapping[int, Codec], cuts: Dealt, samples: Dealt, *, seed: int = 0
) -> dict[int, Leakage | None]:
    """By id, what each operating point of a bundle leaks; `codecs` as `Bundle.codecs` gives them.

    `cuts` are the head's outputs (N, ...) and (M, ...) for the samples. Errors and None as with `point_leakage`.
    """
    shipped = {"tail": cuts, "full": samples}
    return {
        point.id: point_leakage(codecs[point.id], shipped[point.part], samples, seed=seed) for point in manifest.points
    }


def with_leakage(manifest: Manifest, found: Mapping[int, Leakage | None]) -> Manifest:
    """The manifest with what was measured, by point; its interface stays. A point that is not named has None."""
    points = tuple(point.model_copy(update={"leakage": found.get(point.id)}) for point in manifest.points)
    return manifest.model_copy(update={"points": points})


def _check_paired(tensors: Dealt, samples: Dealt) -> None:
    given, wanted = ([len(part) for part in each] for each in (tensors, samples))
    if given != wanted:
        msg = f"leakage takes a tensor for each sample, got {given} tensors and {wanted} samples; encode the same ones"
        raise ConfigError(msg)


def _few(dealt: Dealt, most: tuple[int, int]) -> Dealt:
    return Dealt(*(_evenly(part, count) for part, count in zip(dealt, most, strict=True)))


def _evenly(samples: Array, most: int) -> Array:
    count = min(most, len(samples))
    chosen: Array = samples[np.arange(count) * len(samples) // count]
    return chosen


def _through(codec: Codec, tensors: Array) -> Array:
    return np.stack([codec.decode(codec.encode(each)) for each in tensors])


def _tensor(arrays: Array) -> Tensor:
    return torch.from_numpy(arrays.astype(np.float32, copy=False))


def _is_image(samples: Array) -> bool:
    return samples.dtype == np.uint8 and samples.ndim == _IMAGE_AXES


def _seen(samples: Array) -> Tensor:
    """What an observer is after: images float32 (N, C, H, W) within 0 to 1, or values float32 (N, D)."""
    if not _is_image(samples):
        flat = _tensor(samples).flatten(1)
        count = min(_VALUES, flat.shape[1])
        return flat[:, torch.arange(count) * flat.shape[1] // count]
    whole = (_tensor(samples) / 255).permute(0, 3, 1, 2)
    height, width = (min(side, _SIDE) for side in whole.shape[2:])
    return functional.adaptive_avg_pool2d(whole, (height, width)).clamp(0, 1)
