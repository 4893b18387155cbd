"""The head of a bundle for each edge runtime that can have it, and a trial of it as the edge node will run it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cloud_worker.build.export.to_numpy import export_numpy
from cloud_worker.build.export.to_tflite import export_tflite, has_converter
from cloud_worker.build.export.to_tflite_int8 import quantised
from schemas.bundle import HEAD_INT8, HEAD_NUMPY, HEAD_TFLITE
from schemas.errors import BundleError, ConfigError
from schemas.tensor import Array

FLOAT_HEADS: Final = (HEAD_TFLITE, HEAD_NUMPY)
_RUNTIMES: Final = {HEAD_TFLITE: "tflite", HEAD_NUMPY: "numpy", HEAD_INT8: "int8"}
_NO_CONVERTER: Final = "litert-torch is not installed here; pip install 'splitbus[build]'"
_LIMIT_S: Final = 600
_SHOWN: Final = 120
"""Characters of a reason that stands among others."""


class Heads(NamedTuple):
    """What could be exported, and why the rest could not."""

    files: dict[str, bytes]
    refused: dict[str, str]


def export_heads(head: nn.Module, example: Tensor) -> Heads:
    """Both heads, or the one that can be. Raises BundleError, with both reasons, when neither can."""
    files: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    try:
        files[HEAD_NUMPY] = export_numpy(head, example)
    except BundleError as error:
        refused[HEAD_NUMPY] = str(error)
    if not has_converter():
        refused[HEAD_TFLITE] = _NO_CONVERTER
    else:
        try:
            files[HEAD_TFLITE] = _in_tflite(head, example)
        except BundleError as error:
            refused[HEAD_TFLITE] = str(error)
    if not files:
        told = "; ".join(f"{name}: {reason}" for name, reason in sorted(refused.items(), reverse=True))
        msg = f"no edge runtime takes this head ({told}); cut at another place"
        raise BundleError(msg)
    return Heads(files, refused)


def check_int8() -> None:
    """Raise ConfigError where no int8 head can be made, before the work begins."""
    if not has_converter():
        msg = f"--int8: {_NO_CONVERTER}, or leave --int8 out"
        raise ConfigError(msg)


def with_int8(heads: Heads, inputs: Tensor) -> Heads:
    """The heads and an int8 one, calibrated on preprocessed inputs float32 (N, ...). Raises as `quantised` does."""
    if HEAD_TFLITE not in heads.files:
        msg = f"an int8 head is made from {HEAD_TFLITE}, which is not there: {heads.refused[HEAD_TFLITE]}"
        raise BundleError(msg)
    return heads._replace(files={**heads.files, HEAD_INT8: quantised(heads.files[HEAD_TFLITE], inputs.numpy())})


def may_be_head(head: nn.Module, example: Tensor) -> bool:
    """Whether a head can be exported; where litert-torch is installed it may be."""
    if has_converter():
        return True
    try:
        export_numpy(head, example)
    except BundleError:
        return False
    return True


def no_head(head: nn.Module, example: Tensor) -> str | None:
    """Why no edge runtime takes a head; None where one does. NumPy's is tried first, which is quicker."""
    try:
        export_numpy(head, example)
    except BundleError as error:
        told = f"{HEAD_NUMPY}: {_short(error)}"
    else:
        return None
    if not has_converter():
        return f"{told}; {HEAD_TFLITE}: {_NO_CONVERTER}"
    try:
        _in_tflite(head, example)
    except BundleError as error:
        return f"{told}; {HEAD_TFLITE}: {_short(error)}"
    return None


def _short(error: Exception) -> str:
    return textwrap.shorten(str(error), _SHOWN, placeholder=" ...")


def _in_tflite(head: nn.Module, example: Tensor) -> bytes:
    with contextlib.redirect_stdout(sys.stderr):  # the converter prints its steps
        return export_tflite(head, example)


class HeadTensors(NamedTuple):
    """What a head makes of N samples."""

    cuts: Array
    """float32 (N, ...)."""
    logits: Array | None
    """float32 (N, classes) of the exit, where there is one."""


def run_deployed(bundle: Path, file: str, inputs: Tensor) -> HeadTensors:
    """Of preprocessed inputs, by the edge node's own code in a process of its own.

    Raises BundleError, with what the process said, when it cannot run the head.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "inputs.npy", Path(folder) / "outputs.npz"
        np.save(given, inputs.numpy())
        argv = ["-m", "edge_node.head_trial", str(bundle.resolve()), _RUNTIMES[file], str(given), str(made)]
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter, this package
                [sys.executable, *argv], capture_output=True, text=True, timeout=_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            msg = f"{file} takes more than {_LIMIT_S} s for {len(inputs)} samples; cut earlier"
            raise BundleError(msg) from None
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            msg = f"{file} cannot be tried: {said[-1]}"
            raise BundleError(msg)
        with np.load(made, allow_pickle=False) as found:
            return HeadTensors(found["cut"], found.get("logits"))


def example_of(inputs: Tensor) -> Tensor:
    """Zeros float32 (1, ...)."""
    return torch.zeros(1, *inputs.shape[1:])
