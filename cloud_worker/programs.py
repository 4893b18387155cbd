"""Programs that torch.export wrote: the only module of the worker that imports torch."""

from __future__ import annotations

import io

import numpy as np
import torch

from schemas.errors import BundleError
from schemas.tensor import Array, TensorSpec


def use_threads(count: int) -> None:
    """How many threads one operation may use; to be called on the thread that computes, since OpenMP counts there."""
    torch.set_num_threads(count)


class TorchProgram:
    """One exported program, loaded and run once at batch 1 and at `max_batch`.

    `data` are the bytes of a .pt2 whose digest was checked and whose origin is trusted: loading runs code.
    Raises BundleError when torch cannot load it, or it does not take (n, *inputs.shape) for every n up to
    `max_batch`, or does not give float32 (n, labels).
    """

    def __init__(self, data: bytes, name: str, inputs: TensorSpec, *, labels: int, max_batch: int) -> None:
        self._name, self._inputs, self._labels = name, inputs, labels
        try:
            self._module = torch.export.load(io.BytesIO(data)).module()
        except Exception as error:
            msg = f"torch {torch.__version__} cannot load {name} ({_line(error)}); build the bundle with this release"
            raise BundleError(msg) from error
        for batch in sorted({1, max_batch}):
            self._warm_up(batch)

    def run(self, batch: Array) -> Array:
        """Logits, float32 (n, labels), for inputs (n, ...)."""
        with torch.inference_mode():
            logits: Array = self._module(torch.from_numpy(batch)).numpy()
        return logits

    def _warm_up(self, batch: int) -> None:
        zeros = torch.from_numpy(np.zeros((batch, *self._inputs.shape), self._inputs.dtype))
        try:
            with torch.inference_mode():
                logits = self._module(zeros)
        except Exception as error:
            msg = (
                f"{self._name} does not take a batch of {batch} inputs {self._inputs} ({_line(error)}); "
                "rebuild the bundle, or lower --max-batch to what it was exported for"
            )
            raise BundleError(msg) from error
        expected = f"float32[{batch}, {self._labels}]"
        got = (
            f"{str(logits.dtype).removeprefix('torch.')}{list(logits.shape)}"
            if isinstance(logits, torch.Tensor)
            else type(logits).__name__
        )
        if got != expected:
            msg = f"{self._name} gives {got} for a batch of {batch}, the manifest says {expected}; rebuild the bundle"
            raise BundleError(msg)


def _line(error: Exception) -> str:
    """The first line of what torch says, which can be pages."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]:.200}"
