"""Rounding that a gradient passes, and an estimate of what the rounded tensor costs.

The estimate is the rate of a Gaussian vector at the noise of rounding with step 1, 1/12 a value, after the transforms
that codec `transform` has: a DCT over space, and for each frequency whatever rotation of the channels is best. The
determinant of the covariance is the same for all rotations, so none has to be found:

    bits = sum over frequencies of log2 det(I + 12 cov) / 2

(Ma, Derksen, Hong and Wright 2007; the learnt factorised densities of Balle, Laparra and Simoncelli 2017 would know
neither transform). The covariance is that of the batch. An entropy coder needs up to a quarter of a bit a value more.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import torch
from torch import Tensor

LONGEST: Final = 512
"""Axes beyond this are not transformed."""
_NOISE: Final = 1 / 12


def rounded(z: Tensor) -> Tensor:
    """To whole numbers, without limits; the gradient is that of z (Bengio, Leonard and Courville 2013)."""
    return z + (z.round() - z).detach()


def bits(z: Tensor) -> Tensor:
    """Mean bits of a sample of z, float32 (N, C, ...) with N of 2 or more; differentiable. Rounding is not seen."""
    spectrum = z
    for axis in range(2, z.dim()):
        if z.shape[axis] <= LONGEST:
            spectrum = torch.tensordot(spectrum, _dct(z.shape[axis]).to(z), ([2], [1]))  # puts the axis last
        else:
            spectrum = spectrum.movedim(2, -1)
    values = spectrum.flatten(2) if z.dim() > 2 else spectrum[..., None]  # noqa: PLR2004
    values = (values - values.mean(dim=0)).permute(2, 1, 0)  # (P, C, N)
    covariance = values @ values.transpose(1, 2) / (len(z) - 1)
    grown = torch.eye(z.shape[1], dtype=z.dtype, device=z.device) + covariance / _NOISE
    total: Tensor = torch.linalg.slogdet(grown).logabsdet.sum() / (2 * math.log(2))
    return total


@cache
def _dct(size: int) -> Tensor:
    """Orthonormal DCT-II, float64 (frequency, place)."""
    places = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * places[:, None] * (places + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix
