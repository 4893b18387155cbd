"""The networks: one unsplit model, and the two halves that are cut from it.

Shapes are channels first. Every model takes the preprocessed image, float32 (N, 1, 28, 28); the preprocessing itself,
(x / 255 - mean) / std, is done outside, see `data.normalise`.

    Full   image -> stem -> body -> logits                                       runs in the cloud, unsplit
    Head   image -> stem -> neck -> encoder -> cut, and neck -> exit -> logits   runs on the edge
    Tail   dequantised cut -> decoder -> body -> logits                          runs in the cloud

The head holds only convolution, linear, BatchNorm (folded at export), ReLU, global average pool and residual add, since
NumPy runs the same graph. The cut is a BatchNormed bottleneck, quantised uniformly to a few bits a value; the
straight-through gradient of its rounding is that of Bengio, Leonard and Courville (arXiv:1308.3432).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cloud_worker.build.learn.blocks import Residual, SeparableResidual, classifier, conv, linear_conv, separable

CLASSES = 10
IMAGE_SHAPE = (1, 28, 28)
STEM = 32
NECK = 64
EXIT = 96
WIDTHS = (64, 128)


class Bottleneck(NamedTuple):
    """How the cut z (channels, 7, 7) is rounded.

    q = clip(round((z - zero) / scale), 0, 2**bits - 1), and the tail sees q * scale + zero.
    """

    channels: int = 8
    bits: int = 2

    @property
    def levels(self) -> int:
        """How many values q takes."""
        return int(2**self.bits)

    @property
    def scale(self) -> float:
        """The step in standard deviations: near the best uniform quantiser of a Gaussian (Max 1960)."""
        return {1: 1.6, 2: 1.0, 3: 0.586, 4: 0.335}[self.bits]

    @property
    def zero(self) -> float:
        """The value of q = 0: the levels lie symmetrically about nought."""
        return -self.scale * (self.levels - 1) / 2

    @property
    def payload_bytes(self) -> int:
        """Bytes of one packed cut tensor."""
        return (self.channels * 49 * self.bits + 7) // 8

    def quantise(self, cut: Tensor) -> Tensor:
        """Integers q as float32, the shape of `cut`."""
        return ((cut - self.zero) / self.scale).round().clamp(0, self.levels - 1)

    def dequantise(self, q: Tensor) -> Tensor:
        """What the tail sees for the integers q."""
        return q * self.scale + self.zero

    def straight_through(self, cut: Tensor) -> Tensor:
        """Quantised and dequantised; its gradient is that of a clip half a step beyond the outer levels."""
        edge = -self.zero + self.scale / 2
        soft = cut.clamp(-edge, edge)
        return soft + (self.dequantise(self.quantise(cut)) - soft).detach()


def make_stem() -> nn.Sequential:
    """(N, 1, 28, 28) -> (N, 32, 14, 14)."""
    return nn.Sequential(conv(1, 8), conv(8, STEM, stride=2), SeparableResidual(STEM))


def make_body() -> nn.Sequential:
    """(N, 32, 14, 14) -> logits (N, 10)."""
    low, high = WIDTHS
    return nn.Sequential(
        conv(STEM, low),
        Residual(low, low),
        Residual(low, low),
        Residual(low, high, stride=2),
        Residual(high, high),
        classifier(high, CLASSES),
    )


class Full(nn.Module):
    """The unsplit model."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = make_stem()
        self.body = make_body()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> logits (N, 10)."""
        logits: Tensor = self.body(self.stem(x))
        return logits


class Head(nn.Module):
    """The edge half. The cut leaves it unquantised: rounding belongs to the codec."""

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.stem = make_stem()
        self.neck = nn.Sequential(separable(STEM, NECK, stride=2), SeparableResidual(NECK))
        self.encoder = nn.Sequential(
            nn.Conv2d(NECK, bottleneck.channels, 1, bias=False),
            nn.BatchNorm2d(bottleneck.channels, affine=False),
        )
        self.exit = nn.Sequential(separable(NECK, EXIT), classifier(EXIT, CLASSES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, 28, 28) -> cut (N, channels, 7, 7), logits (N, 10)."""
        features = self.neck(self.stem(x))
        return self.encoder(features), self.exit(features)


class Tail(nn.Module):
    """The cloud half."""

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.decoder = nn.Sequential(
            conv(bottleneck.channels, WIDTHS[0]),
            Residual(WIDTHS[0], WIDTHS[0]),
            linear_conv(WIDTHS[0], 4 * STEM, 1),
            nn.PixelShuffle(2),
        )
        self.body = make_body()

    def forward(self, cut: Tensor) -> Tensor:
        """Dequantised cut (N, channels, 7, 7) -> logits (N, 10)."""
        logits: Tensor = self.body(self.decoder(cut))
        return logits


def count_macs(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of every convolution and linear layer for one input of `shape` (without the batch)."""
    total = 0

    def add(module: nn.Module, _args: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        positions = out[0, 0].numel() if isinstance(module, nn.Conv2d) else 1
        total += module.get_parameter("weight").numel() * positions

    hooks = [m.register_forward_hook(add) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    was_training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return total


def count_params(model: nn.Module) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in model.parameters())
