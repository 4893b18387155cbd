"""Whether what was written answers as the module that it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from schemas.errors import BundleError
from schemas.tensor import Array


class MismatchError(BundleError, ValueError):
    """A written file differs from the module it came from by more than is allowed."""


def check_close(what: str, found: Array, wanted: Array, tolerance: float) -> None:
    """Raise MismatchError, naming `what`, where any value differs by more than `tolerance`, or is not finite."""
    gap = float(np.abs(found - wanted).max())
    if not gap <= tolerance:
        msg = f"{what} differs from the trained module by {gap:.2g}, allowed are {tolerance:.0e}; nothing was exported"
        raise MismatchError(msg)


def largest_share_off(found: Array, wanted: Array) -> float:
    """The largest difference of any value, as a share of the largest value wanted; NaN where one is not finite."""
    gap = float(np.abs(found - wanted).max())
    return gap / max(float(np.abs(wanted).max()), float(np.finfo(np.float32).tiny))


def run_pt2(path: Path, inputs: torch.Tensor) -> Array:
    """Outputs of an exported program: the first sample by itself, the others (at most 64, at least 1) together."""
    module = torch.export.load(path).module()
    with torch.inference_mode():
        found: Array = torch.cat([module(inputs[:1]), module(inputs[1:])]).numpy()
    return found
