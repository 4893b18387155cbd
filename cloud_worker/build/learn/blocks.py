"""Layers that learnt heads and tails are made of, for images (N, C, H, W) and, with `dims=1`, signals (N, C, L).

The paddings keep the sides up to the stride. Only what a NumPy head runs stands in here, but for `Interleave`.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

_CONVS: Final[dict[int, type[nn.Conv1d | nn.Conv2d]]] = {1: nn.Conv1d, 2: nn.Conv2d}
_NORMS: Final[dict[int, type[nn.BatchNorm1d | nn.BatchNorm2d]]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_POOLS: Final[dict[int, type[nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d]]] = {
    1: nn.AdaptiveAvgPool1d,
    2: nn.AdaptiveAvgPool2d,
}


def linear_conv(
    cin: int, cout: int, size: int = 3, stride: int = 1, *, groups: int = 1, dims: int = 2
) -> nn.Sequential:
    """Convolution and BatchNorm."""
    layer = _CONVS[dims](cin, cout, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, _NORMS[dims](cout))


def conv(cin: int, cout: int, size: int = 3, stride: int = 1, *, groups: int = 1, dims: int = 2) -> nn.Sequential:
    """The same with a ReLU behind it."""
    return nn.Sequential(*linear_conv(cin, cout, size, stride, groups=groups, dims=dims), nn.ReLU())


def separable(cin: int, cout: int, stride: int = 1, *, dims: int = 2) -> nn.Sequential:
    """Depthwise 3x3 (of a signal: 3), then 1x1, each with BatchNorm and ReLU."""
    return nn.Sequential(conv(cin, cin, 3, stride, groups=cin, dims=dims), conv(cin, cout, 1, dims=dims))


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016), 1x1 where shape changes."""

    def __init__(self, cin: int, cout: int, stride: int = 1, *, dims: int = 2) -> None:
        super().__init__()
        self.branch = nn.Sequential(conv(cin, cout, 3, stride, dims=dims), linear_conv(cout, cout, dims=dims))
        same = cin == cout and stride == 1
        self.shortcut = nn.Identity() if same else linear_conv(cin, cout, 1, stride, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, h, w) -> (N, cout, h / stride, w / stride)."""
        out: Tensor = torch.relu(self.branch(x) + self.shortcut(x))
        return out


class SeparableResidual(nn.Module):
    """x + a separable block; the same shape."""

    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__()
        self.block = separable(channels, channels, dims=dims)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same."""
        out: Tensor = x + self.block(x)
        return out


class Interleave(nn.Module):
    """What `nn.PixelShuffle(2)` is for images, for signals."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2 C, L) -> (N, C, 2 L)."""
        halves = x.reshape(x.shape[0], -1, 2, x.shape[2])
        return halves.transpose(2, 3).flatten(2)


class Transpose(nn.Module):
    """Tokens as channels, and back."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, D, T)."""
        return x.transpose(1, 2)


def dense(cin: int, cout: int) -> nn.Sequential:
    """(N, cin) -> (N, cout): linear, BatchNorm, ReLU."""
    return nn.Sequential(nn.Linear(cin, cout, bias=False), nn.BatchNorm1d(cout), nn.ReLU())


def classifier(cin: int, classes: int, *, dims: int = 2) -> nn.Sequential:
    """(N, cin, h, w) -> logits (N, classes)."""
    return nn.Sequential(_POOLS[dims](1), nn.Flatten(), nn.Linear(cin, classes))


def unit_norm(channels: int, *, dims: int = 2) -> nn.Module:
    """BatchNorm to variance 1 and mean 0, then a learnt gain for each channel, which begins at 1.

    It has a `weight` and no bias, so whatever folds BatchNorm folds the gain too.
    """
    norm = _NORMS[dims](channels, affine=False)
    norm.weight = nn.Parameter(torch.ones(channels))
    return norm
