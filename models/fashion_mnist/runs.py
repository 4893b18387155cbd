"""A finished training run, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.fashion_mnist.nets import Bottleneck, Full
from models.fashion_mnist.train import Pair


class Run(NamedTuple):
    """A finished training run."""

    full: Full
    pair: Pair
    report: dict[str, Any]


def load(out: Path) -> Run:
    """The networks and the report in `out`. Raises FileNotFoundError when the training did not finish."""
    report = json.loads((out / "report.json").read_text())
    full = Full()
    full.load_state_dict(torch.load(out / "full.pt", weights_only=True))
    shape = report["bottleneck"]
    pair = Pair(Bottleneck(shape["channels"], shape["bits"]))
    pair.load_state_dict(torch.load(out / "split.pt", weights_only=True))
    return Run(full.eval(), pair.eval(), report)
