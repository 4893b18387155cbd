"""The head half of a split model: `Head`, and how one is opened from a bundle.

This is the edge's part of the SplitModelExecutor; the cloud's part is `cloud_worker.tails`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from schemas.bundle import HEAD_INT8, HEAD_NUMPY, HEAD_TFLITE
from schemas.bundle_files import Bundle
from schemas.errors import ConfigError
from schemas.tensor import FloatArray

Runtime = Literal["auto", "tflite", "int8", "numpy"]
"""What runs the head; `int8` is TFLite with the bundle's int8 head, which `auto` never takes."""
_FILES: Final[dict[Runtime, str]] = {"tflite": HEAD_TFLITE, "int8": HEAD_INT8, "numpy": HEAD_NUMPY}

logger = logging.getLogger(__name__)


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

    `auto` takes TFLite when an interpreter works here and the bundle has `head.tflite`, else NumPy. Raises
    BundleError when the head's tensors are not those of the manifest, ConfigError when the runtime asked
    for is not installed or the bundle has no head for it.
    """
    files = bundle.manifest.files
    if runtime == "auto":
        return _open_any(bundle)
    wanted = _FILES[runtime]
    if wanted not in files:
        msg = f"runtime {runtime} needs {wanted}, which {bundle.path} does not have; it has {', '.join(sorted(files))}"
        raise ConfigError(msg)
    return _open_numpy(bundle) if runtime == "numpy" else _open_tflite(bundle, wanted)


def _open_any(bundle: Bundle) -> Head:
    files = bundle.manifest.files
    if HEAD_TFLITE not in files:
        return _open_numpy(bundle)
    try:
        return _open_tflite(bundle)
    except ConfigError as error:
        if HEAD_NUMPY not in files:
            raise
        logger.info("no TFLite interpreter works here (%s); running the head in NumPy", error)
        return _open_numpy(bundle)


def _open_tflite(bundle: Bundle, file: str = HEAD_TFLITE) -> Head:
    from edge_node.tflite_head import TFLiteHead  # noqa: PLC0415 - loaded only where it is used

    return TFLiteHead(bundle.read(file), bundle.manifest)


def _open_numpy(bundle: Bundle) -> Head:
    from edge_node.numpy_head import NumpyHead  # noqa: PLC0415

    return NumpyHead(bundle.read(HEAD_NUMPY), bundle.manifest)
