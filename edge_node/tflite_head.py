"""The head in a TFLite interpreter: ai-edge-litert where it is installed, else tflite-runtime.

The only file that imports either.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from edge_node.heads import HeadOutput
from edge_node.tflite_check import check_tflite
from schemas.bundle import Manifest
from schemas.errors import BundleError, ConfigError
from schemas.tensor import FloatArray

_INTERPRETERS: Final = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
_REMEDY = "use the head and the manifest of one bundle, or build the bundle again"
_MAX_OUTPUTS: Final = 2
_CHATTER: Final = (b"INFO: ",)

_STANDARD_ERROR: Final = threading.Lock()

Tensor = tuple[str, tuple[int, ...]]


class TFLiteHead:
    """A `Head` over a TFLite interpreter; its outputs are the caller's own.

    Raises BundleError when `model` is no TFLite model or its tensors are not the manifest's, ConfigError when
    no interpreter can be imported. The cut and the exit's logits are told apart by shape; where the shapes are
    equal, by the signature, whose outputs in order of name are (cut, logits).
    """

    def __init__(self, model: bytes, manifest: Manifest, *, num_threads: int = 1) -> None:
        self._spec = manifest.preprocess.output_spec(manifest.sample)
        self.runtime, self._interpreter = open_interpreter(model, num_threads=num_threads)
        with _quiet():
            self._input = self._find_input()
            self._cut, self._logits = self._find_outputs(manifest)
            self.run(np.zeros(self._spec.shape, np.float32))

    def run(self, inputs: FloatArray) -> HeadOutput:
        """Run one preprocessed sample. Raises TensorError when `inputs` is not of the head's spec."""
        self._spec.check(inputs, "the head's input")
        try:
            self._interpreter.set_tensor(self._input, inputs[None])
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            msg = f"{self.runtime} cannot run the TFLite head: {_line(error)}; {_REMEDY}"
            raise BundleError(msg) from None
        return HeadOutput(self._read(self._cut), None if self._logits is None else self._read(self._logits))

    def _read(self, index: int) -> FloatArray:
        value: FloatArray = self._interpreter.get_tensor(index)[0]
        return value

    def _find_input(self) -> int:
        details = self._interpreter.get_input_details()
        found = [_described(detail) for detail in details]
        if found != [(self._spec.dtype, (1, *self._spec.shape))]:
            wanted = f"{self._spec.dtype}{[1, *self._spec.shape]}"
            msg = f"the TFLite head takes {_show(found)}, the manifest gives {wanted}; {_REMEDY}"
            raise BundleError(msg)
        return int(details[0]["index"])

    def _find_outputs(self, manifest: Manifest) -> tuple[int, int | None]:
        """Tensor indices of the cut and of the logits, which are None when the bundle has no exit."""
        details = self._interpreter.get_output_details()
        found = [_described(detail) for detail in details]
        wanted: list[Tensor] = [(manifest.cut.dtype, (1, *manifest.cut.shape))]
        if manifest.exit:
            wanted.append(("float32", (1, len(manifest.labels))))
        if Counter(wanted) - Counter(found) or len(found) > _MAX_OUTPUTS:
            msg = f"the TFLite head gives {_show(found)}, the manifest names {_show(wanted)}; {_REMEDY}"
            raise BundleError(msg)
        if found.count(wanted[0]) > 1:
            indices = self._in_signature_order()
        else:
            indices = [int(details[found.index(tensor)]["index"]) for tensor in wanted]
        return indices[0], indices[1] if manifest.exit else None

    def _in_signature_order(self) -> list[int]:
        """Both outputs' tensor indices, in order of their names in the only signature."""
        signatures = self._interpreter.get_signature_list()
        names = sorted(next(iter(signatures.values()))["outputs"]) if len(signatures) == 1 else []
        if len(names) != _MAX_OUTPUTS:
            msg = "the TFLite head's outputs have one shape and no signature orders them; export it with a signature"
            raise BundleError(msg)
        details = self._interpreter.get_signature_runner(next(iter(signatures))).get_output_details()
        return [int(details[name]["index"]) for name in names]


def open_interpreter(model: bytes, *, num_threads: int = 1) -> tuple[str, Any]:
    """The runtime's name, and an interpreter with its tensors allocated.

    Raises BundleError when `model` is no TFLite model, ConfigError when no interpreter can be imported.
    """
    check_tflite(model)
    runtime, interpreter = _load_interpreter()
    with _quiet():
        try:
            opened = interpreter(model_content=model, num_threads=num_threads)
            opened.allocate_tensors()
        except (ValueError, RuntimeError, TypeError) as error:
            msg = f"{runtime} cannot load the TFLite head: {_line(error)}; {_REMEDY}"
            raise BundleError(msg) from None
    return runtime, opened


def _load_interpreter() -> tuple[str, Any]:
    """The runtime's name and its Interpreter class. Raises ConfigError when none can be imported."""
    failures = []
    for runtime, module in _INTERPRETERS.items():
        try:
            return runtime, importlib.import_module(module).Interpreter
        except ImportError as error:
            failures.append(f"{runtime}: {_line(error)}")
    msg = (
        f"no TFLite interpreter can be imported ({'; '.join(failures)}); pip install 'splitbus[edge]' "
        "(tflite-runtime needs NumPy below 2), or use --runtime numpy"
    )
    raise ConfigError(msg)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the interpreter's start-up chatter off the process's standard error, one block at a time.

    It writes to the file descriptor itself. Whatever else arrives there meanwhile, from any thread, is
    written when the block ends.
    """
    with _STANDARD_ERROR, _caught():
        yield


@contextlib.contextmanager
def _caught() -> Iterator[None]:
    try:
        saved = os.dup(2)
    except OSError:  # a service without a standard error has nothing to keep clean
        yield
        return
    with tempfile.TemporaryFile() as caught:
        sys.stderr.flush()
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            for line in caught:
                if not line.startswith(_CHATTER):
                    os.write(2, line)


def _described(detail: dict[str, Any]) -> Tensor:
    return np.dtype(detail["dtype"]).name, tuple(int(size) for size in detail["shape"])


def _show(tensors: list[Tensor]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for dtype, shape in tensors)


def _line(error: BaseException) -> str:
    """The error's text on one line."""
    return " ".join(str(error).split())
