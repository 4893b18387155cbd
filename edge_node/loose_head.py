"""A head by itself, without the bundle that says what it takes: for timing it on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.errors import BundleError, ConfigError
from schemas.tensor import FloatArray


class LooseHead(NamedTuple):
    """A call that runs the head on one synthetic sample, and what runs it."""

    runtime: str
    run: Callable[[], object]


def open_loose(path: Path, data: bytes) -> LooseHead:
    """The head of a file's bytes, run once, on one thread; its sample is normal noise of the head's own shape.

    Raises BundleError, naming the file, for what is no head of one float32 input, and ConfigError when no interpreter
    for it is installed.
    """
    try:
        head = _open_tflite(data) if path.suffix == ".tflite" else _open_numpy(data)
        head.run()
    except BundleError as error:
        msg = f"{path}: {error}"
        raise BundleError(msg) from None
    except ConfigError as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from None
    return head


def _noise(shape: tuple[int, ...]) -> FloatArray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _open_numpy(data: bytes) -> LooseHead:
    from edge_node.numpy_graph import GraphFile  # noqa: PLC0415 - loaded only where it is used
    from edge_node.numpy_head import compile_graph, run_steps  # noqa: PLC0415

    file = GraphFile(data)
    steps, _ = compile_graph(file)
    sample = _noise(file.graph.shape)
    return LooseHead("numpy", lambda: run_steps(file.graph, steps, sample))


def _open_tflite(data: bytes) -> LooseHead:
    from edge_node.tflite_head import open_interpreter  # noqa: PLC0415

    runtime, interpreter = open_interpreter(data)
    inputs = interpreter.get_input_details()
    shape = tuple(int(size) for size in inputs[0]["shape"]) if len(inputs) == 1 else ()
    if not shape or min(shape) < 1 or inputs[0]["dtype"] is not np.float32:
        msg = f"it has {len(inputs)} inputs, the first {inputs[0]['dtype'].__name__}{list(shape)}; give one of float32"
        raise BundleError(msg)
    index, sample = int(inputs[0]["index"]), _noise(shape)

    def run() -> None:
        interpreter.set_tensor(index, sample)
        try:
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            msg = f"{runtime} cannot run it: {' '.join(str(error).split())}; build it again"
            raise BundleError(msg) from None

    return LooseHead(runtime, run)
