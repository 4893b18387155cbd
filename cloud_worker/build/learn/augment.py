"""More samples than there are, for any modality: the unsplit model answers for whatever comes of them."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

MIXED: Final = 0.5
"""Share of the samples that are mixed with another one."""
SHIFT: Final = 14
"""Images move by up to the side over this."""
_IMAGE: Final = 4
_HALF: Final = 0.5


class Mixture(NamedTuple):
    """Samples, some of them mixed."""

    inputs: Tensor
    """float32 (N, ...)."""
    whole: Tensor
    """bool (N,): which are one sample and no mixture; their targets hold."""


def mixed(inputs: Tensor, rng: torch.Generator) -> Mixture:
    """Some samples x become s x + (1 - s) y, with y another of the batch and s uniform in 0 to 1.

    Mixup (Zhang et al. 2018) as Beyer et al. (2022) use it to match functions: no label is mixed.
    """
    count = len(inputs)
    partners = torch.randperm(count, generator=rng)
    whole = torch.rand(count, generator=rng) >= MIXED
    share = torch.where(whole, 1.0, torch.rand(count, generator=rng)).reshape(-1, *[1] * (inputs.dim() - 1))
    return Mixture(inputs * share + inputs[partners] * (1 - share), whole)


def moved(inputs: Tensor, rng: torch.Generator, *, flip: bool) -> Tensor:
    """Images (N, C, H, W), each shifted on its own, mirrored at its borders; `flip` turns one half of them around.

    Anything but images comes back as it is.
    """
    if inputs.dim() != _IMAGE:
        return inputs
    count, _, height, width = inputs.shape
    down, across = height // SHIFT, width // SHIFT
    padded = functional.pad(inputs, [across, across, down, down], mode="reflect")
    rows = torch.randint(0, 2 * down + 1, (count, 1), generator=rng) + torch.arange(height)
    columns = torch.randint(0, 2 * across + 1, (count, 1), generator=rng) + torch.arange(width)
    if flip:
        turned = torch.rand(count, 1, generator=rng) < _HALF
        columns = torch.where(turned, columns.flip(1), columns)
    found = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return found.permute(0, 3, 1, 2).contiguous()  # a traced graph takes no other layout
