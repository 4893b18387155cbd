"""The two halves that are learnt: those of the unsplit model, with new layers between them.

    Head   input -> prefix -> neck -> encoder -> z, and neck -> exit -> logits   runs on the edge
    Tail   z -> decoder -> suffix -> logits                                      runs in the cloud

Prefix and suffix are copies of the halves of `split(graph, cut)`. The graph was traced in eval mode, so their
BatchNorms keep the statistics of the unsplit model, also while weights are learnt; those of the new layers follow the
batches.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cloud_worker.build.cut.cuts import Cut, Graph, split
from cloud_worker.build.cut.sizes import value_of
from cloud_worker.build.learn.parts import Parts, parts_for
from cloud_worker.build.learn.settings import LearnSettings
from schemas.errors import BundleError
from schemas.tensor import TensorSpec

_LOGIT_AXES = 2


class Head(nn.Module):
    """The edge half. z leaves it unrounded: rounding belongs to the codec."""

    def __init__(self, prefix: nn.Module, parts: Parts) -> None:
        super().__init__()
        self.prefix = prefix
        self.neck = parts.neck
        self.encoder = parts.encoder
        self.exit = parts.exit

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Input (N, ...) -> z (N, channels, ...), logits (N, classes)."""
        features = self.neck(self.prefix(x))
        return self.encoder(features), self.exit(features)


class Tail(nn.Module):
    """The cloud half."""

    def __init__(self, suffix: nn.Module, parts: Parts) -> None:
        super().__init__()
        self.decoder = parts.decoder
        self.suffix = suffix

    def forward(self, z: Tensor) -> Tensor:
        """Dequantised z (N, channels, ...) -> logits (N, classes)."""
        logits: Tensor = self.suffix(self.decoder(z))
        return logits


class Pair(nn.Module):
    """Both, to be learnt together."""

    def __init__(self, head: Head, tail: Tail, spec: TensorSpec) -> None:
        super().__init__()
        self.head = head
        self.tail = tail
        self.spec = spec

    def copied(self) -> Iterator[nn.Parameter]:
        """The weights that begin as those of the unsplit model."""
        yield from self.head.prefix.parameters()
        yield from self.tail.suffix.parameters()


def make_pair(graph: Graph, cut: Cut, settings: LearnSettings) -> Pair:
    """Halves of the graph with fresh layers between them, drawn from the seed; torch's global generator stays.

    Raises ConfigError for a cut that is refused or whose shape is not known, BundleError for a model that returns no
    logits.
    """
    classes = classes_of(graph)
    prefix, suffix = (_learnable(half) for half in split(graph, cut))
    shape = cut.spec.shape if cut.spec else ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        parts = parts_for(shape, classes, settings.channels, tokens=settings.tokens)
    spec = TensorSpec(dtype="float32", shape=parts.shape)
    return Pair(Head(prefix, parts), Tail(suffix, parts), spec).eval()


def classes_of(graph: Graph) -> int:
    """How many classes the model tells apart. Raises BundleError where it returns anything but (N, classes)."""
    shape = value_of(graph.output).shape
    if len(shape) != _LOGIT_AXES:
        msg = f"the model returns {list(shape[1:])} for one sample; return logits (batch, classes)"
        raise BundleError(msg)
    return int(shape[1])


def _learnable(half: nn.Module) -> nn.Module:
    copied = copy.deepcopy(half)
    for parameter in copied.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return copied
