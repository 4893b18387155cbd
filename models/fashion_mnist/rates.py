"""The cut's operating points: one gain for each rate and channel, and what the integers are expected to cost.

At rate r the cut z (channels, 7, 7) becomes q = round(z * gain[r]) and the tail sees q / gain[r]: gain units (Cui et
al., "Asymmetric gained deep image compression", 2021), so that one head and one tail serve every rate.

While head and tail are trained, the bits of q are those of a density of z, a mixture of three logistics for each
channel and position, integrated over the bin that rounding makes of it; adding uniform noise in place of rounding
keeps that differentiable (Balle et al., "Variational image compression with a scale hyperprior", 2018). The bin is
1 / gain wide, so all rates share the one density. It is of no use afterwards: the coder's tables are counted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.fashion_mnist.nets import GRID, Bottleneck

MIXED = 3
"""Logistics in each density."""
FIRST_GAINS = (0.8, 0.4)
"""Of the richest and the poorest rate before training, for a cut of unit variance."""
LEAST = 2.0**-24
"""Floor of a probability, so that a value that the density has never seen costs 24 bits."""


class Travelling(NamedTuple):
    """A batch of cuts on its way through a training step."""

    seen: Tensor
    """What the tail gets, (N, channels, 7, 7)."""
    soft_bits: Tensor
    """(N,), with uniform noise for rounding: the gradient is that of these."""
    bits: Tensor
    """(N,), rounded, without a gradient. At low rates noise costs more than rounding does."""


class Density(nn.Module):
    """What is believed of z, (channels, 7, 7): a mixture of logistics at each element."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        shape = (channels, GRID, GRID, MIXED)
        self.weights = nn.Parameter(torch.zeros(shape))
        self.centres = nn.Parameter(torch.linspace(-1.0, 1.0, MIXED).expand(shape).clone())
        self.log_scales = nn.Parameter(torch.full(shape, -0.7))

    def bits(self, z: Tensor, width: Tensor) -> Tensor:
        """Of the bins of `width` (N, channels, 1, 1) about z (N, channels, 7, 7); the shape of z."""
        distance = (z[..., None] - self.centres).abs()
        narrow, half = torch.exp(-self.log_scales), width[..., None] / 2
        inside = torch.sigmoid((half - distance) * narrow) - torch.sigmoid((-half - distance) * narrow)
        chance = (inside * functional.softmax(self.weights, dim=-1)).sum(dim=-1)
        return -torch.log2(chance.clamp_min(0) + LEAST)


class Rates(nn.Module):
    """Rounding at every rate. Its parameters train by their own optimiser, since they are no network weights."""

    log_lambdas: Tensor
    """(rates,): logarithm of the price of a bit, steered by `steer`."""

    def __init__(self, bottleneck: Bottleneck, first_lambda: float = 3e-5) -> None:
        super().__init__()
        richest, poorest = FIRST_GAINS
        gains = torch.linspace(math.log(richest), math.log(poorest), bottleneck.rates)
        self.log_gains = nn.Parameter(gains[:, None].repeat(1, bottleneck.channels))
        self.density = Density(bottleneck.channels)
        self.register_buffer("log_lambdas", torch.full((bottleneck.rates,), math.log(first_lambda)))

    @property
    def gains(self) -> Tensor:
        """(rates, channels): levels for each unit of z."""
        return self.log_gains.exp()

    def quantise(self, cut: Tensor, rate: int) -> Tensor:
        """Integers q as float32, the shape of `cut` (N, channels, 7, 7)."""
        return torch.round(cut * self.gains[rate][:, None, None])

    def dequantise(self, q: Tensor, rate: int) -> Tensor:
        """What the tail sees for the integers q."""
        return q / self.gains[rate][:, None, None]

    def train_step(self, cut: Tensor, rates: Tensor) -> Travelling:
        """What becomes of z float32 (N, channels, 7, 7) at a rate for each sample (N,).

        The tail sees rounded values; the rounding error counts as noise that shrinks with the gain, and nothing else
        of it has a gradient (straight through: Bengio, Leonard and Courville 2013).
        """
        gain = self.gains[rates][:, :, None, None]
        level = cut * gain
        error = (torch.round(level) - level).detach()
        seen, noise = cut + error / gain, torch.rand_like(cut) - 0.5
        soft = self.density.bits(cut + noise / gain, 1 / gain)
        with torch.no_grad():
            exact = self.density.bits(seen, 1 / gain)
        return Travelling(seen, soft.sum(dim=(1, 2, 3)), exact.sum(dim=(1, 2, 3)))

    @torch.no_grad()
    def steer(self, bits: Tensor, rates: Tensor, targets: Tensor, speed: float) -> None:
        """Raise the price of a bit where a batch was over its rate's target (bits, (rates,)), lower it where under."""
        for rate, target in enumerate(targets):
            mine = bits[rates == rate]
            if len(mine):
                self.log_lambdas[rate] += speed * (mine.mean() / target - 1).clamp(-1, 1)
