"""How alike two sets of images are: PSNR and SSIM of tensors (N, C, H, W) within 0 to 1."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from schemas.errors import ConfigError
from schemas.leakage import MOST_DB

__all__ = ["MOST_DB", "WINDOW", "psnr_db", "ssim"]

WINDOW: Final = 11
"""Pixels; images of a shorter side have no SSIM."""
_SIGMA: Final = 1.5
_C1, _C2 = 0.01**2, 0.03**2
_AXES: Final = 4
_CHUNK: Final = 256


def psnr_db(images: Tensor, others: Tensor) -> float:
    """Peak signal-to-noise ratio for a peak of 1, in dB, of the squared error averaged over all images; at most 100.

    Raises ConfigError for shapes that differ.
    """
    _check(images, others)
    error = float((images.double() - others.double()).square().mean())
    return MOST_DB if error <= 10 ** (-MOST_DB / 10) else -10 * math.log10(error)


def ssim(images: Tensor, others: Tensor) -> float:
    """Structural similarity, mean over images, channels and places (Wang, Bovik, Sheikh and Simoncelli 2004).

    A Gaussian window of 11x11 with a deviation of 1.5 pixels at every place where it fits whole, K1 = 0.01, K2 = 0.03
    and a range of 1; 1 for equal images. Raises ConfigError for shapes that differ and sides below 11 pixels.
    """
    _check(images, others)
    if min(images.shape[2:]) < WINDOW:
        msg = f"SSIM takes images of at least {WINDOW}x{WINDOW} pixels, got {list(images.shape)}; enlarge them"
        raise ConfigError(msg)
    pairs = zip(torch.split(images.double(), _CHUNK), torch.split(others.double(), _CHUNK), strict=True)
    return float(torch.cat([_similarity(one, other) for one, other in pairs]).mean())


def _similarity(one: Tensor, other: Tensor) -> Tensor:
    """(N, C), mean over the places."""
    mean, other_mean = _blurred(one), _blurred(other)
    spread = _blurred(one * one) - mean * mean
    other_spread = _blurred(other * other) - other_mean * other_mean
    common = _blurred(one * other) - mean * other_mean
    light = (2 * mean * other_mean + _C1) / (mean * mean + other_mean * other_mean + _C1)
    shape = (2 * common + _C2) / (spread + other_spread + _C2)
    return (light * shape).mean(dim=(2, 3))


def _blurred(images: Tensor) -> Tensor:
    """Weighted means (N, C, H - 10, W - 10), one axis after the other."""
    place = torch.arange(WINDOW, dtype=images.dtype) - WINDOW // 2
    weights = torch.exp(-place.square() / (2 * _SIGMA**2))
    line = (weights / weights.sum()).expand(images.shape[1], 1, 1, WINDOW)
    across = functional.conv2d(images, line, groups=images.shape[1])
    down: Tensor = functional.conv2d(across, line.transpose(2, 3), groups=images.shape[1])
    return down


def _check(images: Tensor, others: Tensor) -> None:
    if images.shape != others.shape or images.dim() != _AXES or not images.numel():
        msg = f"comparing images takes two sets (N, C, H, W) alike, got {list(images.shape)} and {list(others.shape)}"
        raise ConfigError(msg)
