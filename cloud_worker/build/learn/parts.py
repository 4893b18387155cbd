"""What is learnt around a cut, by the cut's shape: neck, encoder and exit on the edge, a decoder in the cloud.

    (C, H, W)             separable convolutions; sides are halved where both are even and 8 or more
    (C, L)                the same in one dimension
    (T, D) with `tokens`  linear layers for each token; z is channels first: (channels, T)
    (D,)                  linear layers

A neck is twice as wide as the cut, within bounds; an exit half as wide again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from torch import nn

from cloud_worker.build.learn.blocks import (
    Interleave,
    Residual,
    SeparableResidual,
    Transpose,
    classifier,
    conv,
    dense,
    linear_conv,
    separable,
    unit_norm,
)
from schemas.errors import ConfigError

NARROWEST: Final = 16
WIDEST: Final = 256
"""Bounds of a neck's channels."""
_HALVED_FROM: Final = 8
_MOST_DIMS: Final = 2
Shape = tuple[int, ...]


class Parts(NamedTuple):
    """New layers, and the shape of z (channels, ...) for one sample."""

    neck: nn.Module
    """Cut (N, ...) -> features."""
    encoder: nn.Module
    """Features -> z (N, *shape), of unit variance times the gain of its channel."""
    exit: nn.Module
    """Features -> logits (N, classes)."""
    decoder: nn.Module
    """z -> something like the cut (N, ...)."""
    shape: Shape


def parts_for(cut: Shape, classes: int, channels: int, *, tokens: bool) -> Parts:
    """Fresh layers for a cut of that shape, drawn from torch's global generator.

    Raises ConfigError for more than three dimensions, and for `tokens` where the cut is not (T, D).
    """
    if tokens and len(cut) != 2:  # noqa: PLR2004
        msg = f"the cut is {list(cut)}, which are no tokens (T, D); cut elsewhere, or leave tokens out"
        raise ConfigError(msg)
    if len(cut) - 1 > _MOST_DIMS:
        msg = f"the cut is {list(cut)}; known are (C, H, W), (C, L), tokens (T, D) and (D,): cut elsewhere"
        raise ConfigError(msg)
    if tokens:
        return _for_tokens(cut, classes, channels)
    return _for_maps(cut, classes, channels) if len(cut) > 1 else _for_vectors(cut, classes, channels)


def _width(size: int) -> int:
    return min(max(2 * size, NARROWEST), WIDEST)


def _for_maps(cut: Shape, classes: int, channels: int) -> Parts:
    """Images and signals."""
    size, dims, width = cut[0], len(cut) - 1, _width(cut[0])
    stride = 2 if all(side % 2 == 0 and side >= _HALVED_FROM for side in cut[1:]) else 1
    wide = width * 3 // 2
    last = linear_conv(width, size * stride**dims, 1, dims=dims)
    spread: list[nn.Module] = [] if stride == 1 else [nn.PixelShuffle(2) if dims == _MOST_DIMS else Interleave()]
    bare = nn.Conv2d if dims == _MOST_DIMS else nn.Conv1d
    return Parts(
        neck=nn.Sequential(separable(size, width, stride, dims=dims), SeparableResidual(width, dims=dims)),
        encoder=nn.Sequential(bare(width, channels, 1, bias=False), unit_norm(channels, dims=dims)),
        exit=nn.Sequential(separable(width, wide, dims=dims), classifier(wide, classes, dims=dims)),
        decoder=nn.Sequential(conv(channels, width, dims=dims), Residual(width, width, dims=dims), last, *spread),
        shape=(channels, *(side // stride for side in cut[1:])),
    )


def _for_tokens(cut: Shape, classes: int, channels: int) -> Parts:
    """A class token is one among the others: the exit averages over all."""
    length, size = cut
    width = _width(size)
    pooled = (Transpose(), classifier(width, classes, dims=1))
    return Parts(
        neck=nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width), nn.ReLU()),
        encoder=nn.Sequential(nn.Linear(width, channels, bias=False), Transpose(), unit_norm(channels, dims=1)),
        exit=nn.Sequential(nn.Linear(width, width), nn.ReLU(), *pooled),
        decoder=nn.Sequential(
            Transpose(),
            nn.Linear(channels, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, size),
        ),
        shape=(channels, length),
    )


def _for_vectors(cut: Shape, classes: int, channels: int) -> Parts:
    width = _width(cut[0])
    return Parts(
        neck=dense(cut[0], width),
        encoder=nn.Sequential(nn.Linear(width, channels, bias=False), unit_norm(channels, dims=1)),
        exit=nn.Sequential(dense(width, width), nn.Linear(width, classes)),
        decoder=nn.Sequential(dense(channels, width), dense(width, width), nn.Linear(width, cut[0])),
        shape=(channels,),
    )
