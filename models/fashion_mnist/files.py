"""Weights on disk: written whole or not at all, and a pair's without what only its training needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path

    from models.fashion_mnist.pair import Pair


def save(path: Path, content: object) -> None:
    """torch.save through a temporary file beside `path`."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(content, temporary)
    temporary.replace(path)


def save_pair(path: Path, pair: Pair) -> None:
    """Head in float32, the tail's matrices in float16, gains (rates, channels); neither density nor prices."""
    state = {"head": pair.head.state_dict(), "tail": _halved(pair.tail), "gains": pair.rates.gains.detach()}
    save(path, {name: _on_cpu(part) for name, part in state.items()})


def load_pair(path: Path, pair: Pair) -> None:
    """Fill `pair` from what `save_pair` wrote. Raises FileNotFoundError where it wrote nothing."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    pair.head.load_state_dict(state["head"])
    pair.tail.load_state_dict(state["tail"])
    with torch.no_grad():
        pair.rates.log_gains.copy_(state["gains"].log())


def _halved(model: nn.Module) -> dict[str, Tensor]:
    return {name: t.half() if t.dim() > 1 else t for name, t in model.state_dict().items()}


def _on_cpu(part: Any) -> Any:
    if isinstance(part, Tensor):
        return part.cpu().contiguous()
    return {name: tensor.cpu().contiguous() for name, tensor in part.items()}
