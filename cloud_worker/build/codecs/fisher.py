"""What the output of a model feels: gradients of its log-likelihood at the cut."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BATCH = 16


def gradients(tail: nn.Module, activations: Tensor, draws: int = 8, seed: int = 0) -> Tensor:
    """Gradients of log p(y) at the cut, y drawn from the model's own softmax: float32[N, draws, ...].

    `activations` is float32[N, ...], the tail gives logits [N, classes]. Their second moment is the Fisher
    information (Amari 1998; the labels are the model's, so none are needed): to second order, a change d of the cut
    costs d' F d / 2 nats of KL divergence at the output. Raises RuntimeError when the tail has no gradient.
    """
    rng = torch.Generator().manual_seed(seed)
    parts = torch.split(activations, _BATCH)
    return torch.cat([_of_batch(tail, part, draws, rng) for part in parts])


def _of_batch(tail: nn.Module, part: Tensor, draws: int, rng: torch.Generator) -> Tensor:
    cut = part.detach().clone().requires_grad_()
    with torch.enable_grad():
        logs = tail(cut).log_softmax(dim=1)
        labels = torch.multinomial(logs.detach().exp(), draws, replacement=True, generator=rng)
        each = [
            torch.autograd.grad(logs.gather(1, labels[:, k : k + 1]).sum(), cut, retain_graph=k + 1 < draws)[0]
            for k in range(draws)
        ]
    return torch.stack(each, dim=1)
