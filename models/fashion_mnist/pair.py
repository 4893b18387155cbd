"""Head, rounding and tail in one graph, and the loss that trains them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.fashion_mnist.nets import Bottleneck, Full, Head, Tail
from models.fashion_mnist.rates import Rates

if TYPE_CHECKING:
    from models.fashion_mnist.views import Batch

EXIT_WEIGHT = 0.5
HARD_WEIGHT = 0.5
"""Of the labels against the unsplit model's answers."""
STEER = 0.01
"""Largest change of a price's logarithm in one step."""


class Pair(nn.Module):
    """Both halves and what lies between them."""

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.head = Head(bottleneck)
        self.rates = Rates(bottleneck)
        self.tail = Tail(bottleneck)

    def start_from(self, full: Full) -> None:
        """Copy the unsplit model's stem into the head, its last layers into the tail."""
        self.head.stem.load_state_dict(full.stem.state_dict())
        self.tail.start_from(full)

    def finish(self, cut: Tensor, rate: int) -> Tensor:
        """Unquantised cut (N, channels, 7, 7) -> the tail's logits (N, 10) at a rate."""
        logits: Tensor = self.tail(self.rates.dequantise(self.rates.quantise(cut, rate), rate))
        return logits


class SplitLoss:
    """Both branches learn from the labels and from the unsplit model's answers (Hinton et al. 2015); bits have a price.

    Every sample of a batch travels at one of the rates in turn, twice as often at the richest. Each rate's price is
    steered so that its mean bits come to its target: the Lagrangian of "as accurate as can be at so many bits".
    """

    def __init__(self, targets: Tensor, softening: float) -> None:
        self.targets = targets
        """Bits of a cut, (rates,)."""
        self.softening = softening

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The sum over tail, exit and price. `model` must be a Pair."""
        assert isinstance(model, Pair)
        assert batch.teacher is not None
        device = batch.images.device
        turns = torch.arange(len(batch.labels), device=device) % (len(self.targets) + 1)
        rates = (turns - 1).clamp_min(0)
        cut, exit_logits = model.head(batch.images)
        found = model.rates.train_step(cut, rates)
        with torch.autocast(device.type, torch.bfloat16):
            tail_logits = model.tail(found.seen)
        prices = model.rates.log_lambdas.exp()[rates]
        model.rates.steer(found.bits, rates, self.targets, STEER)
        answers = self._taught(tail_logits.float(), batch) + EXIT_WEIGHT * self._taught(exit_logits, batch)
        return answers + (prices * found.soft_bits).mean()

    def _taught(self, logits: Tensor, batch: Batch) -> Tensor:
        assert batch.teacher is not None
        hard = functional.cross_entropy(logits, batch.labels)
        mine, wanted = (functional.log_softmax(one / self.softening, dim=1) for one in (logits, batch.teacher))
        soft = functional.kl_div(mine, wanted, reduction="batchmean", log_target=True)
        return HARD_WEIGHT * hard + self.softening**2 * soft
