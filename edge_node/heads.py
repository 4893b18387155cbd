"""The head half of a split model: `Head`, and how one is opened from a bundle.

This is the edge's part of the SplitModelExecutor; the cloud's part is `cloud_worker.tails`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal, Protocol

from schemas.bundle import HEAD_NUMPY, HEAD_TFLITE
from schemas.bundle_files import Bundle
from schemas.errors import BundleError, ConfigError
from schemas.tensor import FloatArray

Runtime = Literal["auto", "tflite", "numpy"]


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """What the first layers make of one sample."""

    cut: FloatArray
    """The cut tensor, of the manifest's spec, not yet compressed."""
    logits: FloatArray | None
    """The early exit's logits, shape (labels,), or None when the bundle has no exit."""


class Head(Protocol):
    """The first layers of one model. Not safe for concurrent calls: give each head one thread."""

    runtime: str
    """What runs it: `ai-edge-litert`, `tflite-runtime` or `numpy`."""

    def run(self, inputs: FloatArray) -> HeadOutput:
        """Run one preprocessed sample, without a batch dimension.

        Raises TensorError when `inputs` is not of the shape that the head takes.
        """


def open_head(bundle: Bundle, runtime: Runtime = "auto") -> Head:
    """The bundle's head, its file's digest checked first, and run once so that the next call is fast.

    `auto` takes TFLite when an interpreter is installed and the bundle has `head.tflite`, else NumPy. Raises
    BundleError when the head's tensors are not those of the manifest, ConfigError when the runtime asked
    for is not installed or the bundle has no head for it.
    """
    chosen = _choose(bundle, runtime)
    if chosen == "tflite":
        from edge_node.tflite_head import TFLiteHead  # noqa: PLC0415 - loaded only where it is used

        return TFLiteHead(bundle.read(HEAD_TFLITE), bundle.manifest)
    from edge_node.numpy_head import NumpyHead  # noqa: PLC0415

    return NumpyHead(bundle.read(HEAD_NUMPY), bundle.manifest)


def tflite_installed() -> bool:
    """Whether one of the TFLite interpreters is importable."""
    return any(importlib.util.find_spec(name) for name in ("ai_edge_litert", "tflite_runtime"))


def _choose(bundle: Bundle, runtime: Runtime) -> Literal["tflite", "numpy"]:
    files = bundle.manifest.files
    if runtime == "auto":
        if tflite_installed() and HEAD_TFLITE in files:
            return "tflite"
        if HEAD_NUMPY in files:
            return "numpy"
        msg = f"{bundle.path} has only {HEAD_TFLITE} and no TFLite interpreter is installed; pip install 'splitbus[edge]'"
        raise BundleError(msg)
    wanted = HEAD_TFLITE if runtime == "tflite" else HEAD_NUMPY
    if wanted not in files:
        msg = f"runtime {runtime} needs {wanted}, which {bundle.path} does not have; it has {', '.join(sorted(files))}"
        raise ConfigError(msg)
    if runtime == "tflite" and not tflite_installed():
        msg = "runtime tflite needs ai-edge-litert or tflite-runtime; pip install 'splitbus[edge]', or use --runtime numpy"
        raise ConfigError(msg)
    return runtime
