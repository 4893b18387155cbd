"""Whether the written files answer as the trained modules do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from models.fashion_mnist import data
from schemas.bundle import FULL, HEAD_TFLITE, TAIL

if TYPE_CHECKING:
    from pathlib import Path

    from models.fashion_mnist.report import Run
    from schemas.tensor import Array

TOLERANCE = 1e-4
"""Largest absolute difference of any cut value or logit."""


class MismatchError(ValueError):
    """A written file differs from the module it came from by more than TOLERANCE."""


def files_agree(run: Run, images: data.Bytes, folder: Path) -> None:
    """Compare all of them on uint8 images (N, 28, 28), N from 2 to 65. Raises MismatchError, naming the file."""
    inputs = torch.from_numpy(data.normalise(images))
    with torch.inference_mode():
        cut, logits = run.pair.head(inputs)
        shipped = run.pair.bottleneck.dequantise(run.pair.bottleneck.quantise(cut))
        tail, full = run.pair.tail(shipped), run.full(inputs)
    found_cut, found_logits = run_tflite(folder / HEAD_TFLITE, inputs.numpy())
    _close(f"{HEAD_TFLITE} cut", found_cut, cut.numpy())
    _close(f"{HEAD_TFLITE} logits", found_logits, logits.numpy())
    _close(TAIL, run_pt2(folder / TAIL, shipped), tail.numpy())
    _close(FULL, run_pt2(folder / FULL, inputs), full.numpy())


def _close(what: str, found: Array, wanted: Array) -> None:
    gap = float(np.abs(found - wanted).max())
    if not gap <= TOLERANCE:
        msg = f"{what} differs from the trained module by {gap:.2g}, allowed are {TOLERANCE:.0e}; nothing was exported"
        raise MismatchError(msg)


def run_pt2(path: Path, inputs: torch.Tensor) -> Array:
    """Outputs of an exported program: the first sample by itself, the others (at most 64) together."""
    module = torch.export.load(path).module()
    with torch.inference_mode():
        found: Array = torch.cat([module(inputs[:1]), module(inputs[1:])]).numpy()
    return found


def run_tflite(path: Path, inputs: Array) -> tuple[Array, Array]:
    """Cut and logits, one sample at a time, in the order the module returns them."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - only the export needs it

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    rows: list[list[Array]] = [[], []]
    for sample in inputs:
        interpreter.set_tensor(source["index"], sample[None])
        interpreter.invoke()
        for row, output in zip(rows, outputs, strict=True):
            row.append(interpreter.get_tensor(output["index"]))
    return np.concatenate(rows[0]), np.concatenate(rows[1])
