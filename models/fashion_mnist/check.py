"""Whether the written files answer as the trained modules do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cloud_worker.build.export.agree import check_close, run_pt2
from edge_node.heads import Head, Runtime, open_head
from models.fashion_mnist import data
from schemas.bundle import FULL, TAIL
from schemas.bundle_files import open_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from models.fashion_mnist.runs import Run
    from schemas.tensor import Array

RUNTIMES: tuple[Runtime, ...] = ("tflite", "numpy")
TOLERANCE = 1e-4
"""Largest absolute difference of any cut value or logit."""


def files_agree(run: Run, images: data.Bytes, folder: Path) -> None:
    """Compare all of them on uint8 images (N, 28, 28), N from 2 to 65. Raises MismatchError, naming the file."""
    inputs = torch.from_numpy(data.normalise(images))
    with torch.inference_mode():
        cut, logits = run.pair.head(inputs)
        shipped = run.pair.bottleneck.dequantise(run.pair.bottleneck.quantise(cut))
        tail, full = run.pair.tail(shipped), run.full(inputs)
    bundle = open_bundle(folder)
    for runtime in RUNTIMES:
        found_cut, found_logits = run_head(open_head(bundle, runtime), inputs.numpy())
        _close(f"{runtime} head, cut", found_cut, cut.numpy())
        _close(f"{runtime} head, logits", found_logits, logits.numpy())
    _close(TAIL, run_pt2(folder / TAIL, shipped), tail.numpy())
    _close(FULL, run_pt2(folder / FULL, inputs), full.numpy())


def _close(what: str, found: Array, wanted: Array) -> None:
    check_close(what, found, wanted, TOLERANCE)


def run_head(head: Head, inputs: Array) -> tuple[Array, Array]:
    """Cuts and logits of a deployed head, one sample at a time."""
    found = [head.run(sample) for sample in inputs]
    return np.stack([one.cut for one in found]), np.stack([one.logits for one in found if one.logits is not None])
