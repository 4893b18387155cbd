"""What is asked of a fit, what it learns from, and what comes of it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from schemas.errors import ConfigError, SampleError
from schemas.tensor import TensorSpec


@dataclass(frozen=True, slots=True)
class LearnSettings:
    """How a pair is learnt. Raises ConfigError for a value that cannot be."""

    channels: int = 8
    """Of z, the tensor that travels."""
    epochs: int = 10
    batch: int = 128
    """Samples a step; all of them where there are fewer."""
    peak_lr: float = 0.05
    """Of the new layers; the copied ones learn more slowly."""
    rate_weight: float = 1e-4
    """What one bit of a sample costs, in nats of divergence from the unsplit model."""
    softening: float = 2.0
    """Temperature of the distillation (Hinton, Vinyals and Dean 2015)."""
    flip: bool = False
    """Whether an image may be mirrored, left to right."""
    tokens: bool = False
    """Whether a cut of two dimensions is tokens (T, D); else it is a signal (C, L)."""
    bfloat16: bool = False
    """Whether layers run in bfloat16, which is faster on processors that have it."""
    seed: int = 0
    start: Path | None = None
    """A `fitted.pt` of the same structure to begin from."""

    def __post_init__(self) -> None:
        wrong = [name for name, least in _LEAST.items() if getattr(self, name) < least]
        wrong += [name for name in ("peak_lr", "softening") if not 0 < getattr(self, name) < float("inf")]
        if not 0 <= self.rate_weight < float("inf"):
            wrong.append("rate_weight")
        if wrong:
            found = ", ".join(f"{name} {getattr(self, name)}" for name in wrong)
            msg = f"cannot learn with {found}; counts are 1 or more, a batch 2, rates positive and finite"
            raise ConfigError(msg)

    def plain(self) -> dict[str, Any]:
        """All of it but `start`, as numbers and booleans."""
        return {name: value for name, value in asdict(self).items() if name != "start"}


_LEAST = {"channels": 1, "epochs": 1, "batch": 2, "seed": 0}


class LearnData(NamedTuple):
    """Preprocessed samples and, where they are known, their classes."""

    inputs: Tensor
    """float32 (N, ...)."""
    targets: Tensor | None = None
    """int64 (N,)."""

    def check(self, what: str, classes: int, least: int) -> None:
        """Raises SampleError, naming `what`, for another dtype, too few samples or classes that there are not."""
        if self.inputs.dtype != torch.float32 or len(self.inputs) < least:
            dtype = str(self.inputs.dtype).removeprefix("torch.")
            msg = f"{what}: {dtype}{list(self.inputs.shape)}; give float32, at least {least} samples"
            raise SampleError(msg)
        if self.targets is None:
            return
        if self.targets.dtype != torch.int64 or self.targets.shape != self.inputs.shape[:1]:
            msg = f"{what}: targets {list(self.targets.shape)}; give an int64 for each of {len(self.inputs)} samples"
            raise SampleError(msg)
        low, high = int(self.targets.min()), int(self.targets.max())
        if low < 0 or high >= classes:
            msg = f"{what}: targets are {low} to {high}, the model has {classes} classes; give 0 to {classes - 1}"
            raise SampleError(msg)

    def marks(self) -> Tensor:
        """int64 (N,): the first 8 bytes of each sample's SHA-256, by which it is known again."""
        found = [hashlib.sha256(each.contiguous().numpy().data).digest()[:8] for each in self.inputs]
        return torch.tensor([int.from_bytes(each, "little", signed=True) for each in found], dtype=torch.int64)

    def digest(self) -> str:
        """SHA-256 in hex over shapes and values."""
        found = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            if tensor is not None:
                found.update(str(list(tensor.shape)).encode("ascii"))
                found.update(tensor.contiguous().numpy().data)
        return found.hexdigest()


@dataclass(frozen=True, slots=True)
class Figures:
    """How a pair does on validation samples, z rounded with step 1 as in training. All but `bits` are shares."""

    tail_agrees: float
    """Samples for which the tail names the unsplit model's class."""
    exit_agrees: float
    bits: float
    """Estimate for one sample; see `rate.bits`."""
    full_right: float | None
    """Samples for which the unsplit model names the target; None without targets."""
    tail_right: float | None
    exit_right: float | None

    def __str__(self) -> str:
        """One line."""
        told = f"tail agrees {self.tail_agrees:.4f}, exit {self.exit_agrees:.4f}, about {self.bits / 8:.0f} bytes"
        if self.full_right is None:
            return told
        return f"{told}; right: tail {self.tail_right:.4f}, exit {self.exit_right:.4f}, unsplit {self.full_right:.4f}"


@dataclass(frozen=True, slots=True)
class Learnt:
    """A pair in eval mode, with the weights averaged over the last steps."""

    head: nn.Module
    """float32 (N, ...) of the model's input -> z (N, *spec.shape), exit logits (N, classes)."""
    tail: nn.Module
    """z -> logits (N, classes)."""
    spec: TensorSpec
    """z of one sample."""
    settings: LearnSettings
    """Those that it was learnt with."""
    figures: Figures
