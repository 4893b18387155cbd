"""From trained modules to the files of a bundle: BatchNorm folded, then .pt2."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from pathlib import Path

MAX_BATCH = 64
"""The .pt2 files take batches of 1 to this many."""


def folded(model: nn.Module) -> nn.Module:
    """Copy in eval mode, every BatchNorm made part of the convolution before it; the same outputs up to rounding."""
    copied = copy.deepcopy(model).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in list(copied.modules()):
        if isinstance(module, nn.Sequential):
            _fold_pairs(module)
    copied.requires_grad_(requires_grad=False)
    left = [name for name, module in copied.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if left:
        msg = f"BatchNorm at {', '.join(left)} follows no convolution; fold it by hand or move it"
        raise ValueError(msg)
    frozen: nn.Module = copied
    return frozen


def _fold_pairs(sequence: nn.Sequential) -> None:
    """Replace (Conv2d, BatchNorm2d) neighbours by (Conv2d with bias, Identity)."""
    for index in range(len(sequence) - 1):
        first, second = sequence[index], sequence[index + 1]
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            sequence[index] = fuse_conv_bn_eval(first, second)
            sequence[index + 1] = nn.Identity()


def weights_digest(**parts: nn.Module) -> str:
    """SHA-256 in hex over names, shapes and little-endian bytes of the state of all parts, in order of name.

    Equal weights give the same digest on every machine; one weight that differs, in whichever part, another.
    """
    digest = hashlib.sha256()
    state = {f"{part}.{name}": tensor for part, model in parts.items() for name, tensor in model.state_dict().items()}
    for name, tensor in sorted(state.items()):
        array = tensor.detach().contiguous().numpy()
        digest.update(f"{name}:{array.dtype}:{list(array.shape)};".encode("ascii"))
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def write_pt2(model: nn.Module, example: Tensor, path: Path) -> None:
    """torch.export of a folded model, its first dimension free from 1 to MAX_BATCH."""
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    program = torch.export.export(model, (example.expand(2, *example.shape[1:]).clone(),), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of the machine that exports
    torch.export.save(program, path)
