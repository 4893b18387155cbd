"""A finished training run, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.fashion_mnist.files import load_pair
from models.fashion_mnist.nets import Bottleneck, Full
from models.fashion_mnist.pair import Pair

WEIGHTS = Path(__file__).parent / "weights"


class Run(NamedTuple):
    """A finished training run of one seed."""

    full: Full
    pair: Pair
    report: dict[str, Any]


def load(out: Path, seed: int = 0) -> Run:
    """The networks and the report of `seed` in `out`. Raises FileNotFoundError when that training did not finish."""
    report = json.loads((out / f"seed{seed}.json").read_text())
    full = Full()
    full.load_state_dict(torch.load(out / "full.pt", weights_only=True))
    pair = Pair(Bottleneck(**report["bottleneck"]))
    load_pair(out / f"seed{seed}.pt", pair)
    return Run(full.eval(), pair.eval(), report)
