"""The unsplit model, which runs in the cloud and teaches what the edge runs.

It takes the preprocessed image, float32 (N, 1, 28, 28); the preprocessing itself, (x / 255 - mean) / std, is done
outside, see `data.normalise`.

    image -> stem -> (N, 32, 14, 14) -> body -> logits

The edge's head and the cloud's tail are learnt around the cut after `stem` by `cloud-worker build --fit`.
"""

from __future__ import annotations

from torch import Tensor, nn

from cloud_worker.build.learn.blocks import Residual, SeparableResidual, classifier, conv

CLASSES = 10
STEM = 32
WIDTHS = (64, 128)


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
