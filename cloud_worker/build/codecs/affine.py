"""Ranges of codec `affine`, from calibration samples."""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.codecs import Config
from schemas.tensor import FloatArray

_TAILS: Final = (0.05, 99.95)
"""Percentiles of the calibration values that are a range."""
_LEAST_VALUES: Final = 64
_MOST_RANGES: Final = 1024


def affine_config(activations: FloatArray, bits: int) -> Config:
    """Codec `affine` over calibrated ranges of (N, C, ...).

    A range for each channel where 64 values or more of it are known and there are at most 1024; else one for all.
    """
    channels = activations.shape[1]
    each = activations.size // channels >= _LEAST_VALUES and channels <= _MOST_RANGES
    rows = np.moveaxis(activations, 1, 0).reshape(channels if each else 1, -1)
    low, high = np.percentile(rows.astype(np.float64), _TAILS, axis=1)
    scale = np.maximum(high - low, 1e-6) / (2**bits - 1)
    return {"bits": bits, "scale": scale.tolist(), "zero": low.tolist()}
