"""`head.npz`: a small layer graph and its weights, in a file that NumPy alone can read.

A zip file, stored or deflated, of `.npy` members (format 1.0 or 2.0, C order):

- `graph.npy`: uint8 (n,), the UTF-8 text of one JSON object.
- one `NAME.npy` for each weight array that the graph names: float32, little-endian.

The JSON object, for a 3x3 convolution, ReLU and a classifier::

    {"format": 1, "input": "x", "shape": [1, 28, 28], "outputs": ["cut", "logits"], "nodes": [
      {"op": "conv2d", "inputs": ["x"], "output": "a", "attrs": {"stride": [2, 2], "padding": [1, 1], "groups": 1},
       "weights": {"weight": "w0", "bias": "w1"}},
      {"op": "relu", "inputs": ["a"], "output": "cut"},
      {"op": "flatten", "inputs": ["cut"], "output": "b"},
      {"op": "linear", "inputs": ["b"], "output": "logits", "weights": {"weight": "w2", "bias": "w3"}}]}

`shape` is the input's, without a batch dimension, as are all shapes; images are (channels, height, width).
`outputs` is the cut, then the exit's logits when there is an exit. Nodes come in an order in which every
input is already known; each value is written once. `attrs` and `weights` may be left out when empty. The
ops, their attributes and the shapes of their weights are in `edge_node.numpy_ops`. BatchNorm does not
exist here: a writer folds it into the layer before it, or writes a `scale`. Ops and attributes are added without a
new format number, since a release refuses by name those that it does not know; none changes its meaning.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from schemas.errors import BundleError
from schemas.record import Record, explain
from schemas.tensor import Array, Dimension, FloatArray

GRAPH = "graph"
MAX_BYTES = 256 << 20
"""All members that are read may have no more bytes than this together, unpacked."""
MAX_GRAPH_BYTES = 4 << 20
MAX_NODES = 4096

ValueName = Annotated[str, Field(min_length=1, max_length=256)]


class Node(Record):
    """One layer: what it reads, what it writes, and the members that hold its weights by role."""

    op: str
    inputs: Annotated[tuple[ValueName, ...], Field(min_length=1, max_length=64)]
    output: ValueName
    attrs: dict[str, Any] = {}
    weights: dict[str, ValueName] = {}


class Graph(Record):
    """The whole head. That its names fit together is checked when it is compiled."""

    format: Literal[1]
    input: ValueName
    shape: Annotated[tuple[Dimension, ...], Field(min_length=1, max_length=6)]
    outputs: Annotated[tuple[ValueName, ...], Field(min_length=1, max_length=2)]
    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=MAX_NODES)]


class GraphFile:
    """An opened `head.npz`: the graph, and each weight array when it is asked for.

    Raises BundleError for anything that is not such a file. A member's stated size is compared with the
    caps before it is unpacked, and unpacking never yields more than the stated size.
    """

    def __init__(self, data: bytes) -> None:
        self._budget = MAX_BYTES
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise _broken(f"the NumPy head is not a zip file ({error})") from None
        text = self._read(GRAPH, np.dtype(np.uint8), MAX_GRAPH_BYTES).tobytes()
        try:
            self.graph = Graph.model_validate_json(text)
        except ValidationError as error:
            raise _broken(f"the graph of the NumPy head cannot be used: {explain(error)}") from None

    def weight(self, name: str) -> FloatArray:
        """The float32 array in member `name`, read-only. Raises BundleError when there is no such array."""
        return self._read(name, np.dtype("<f4"), MAX_BYTES).astype(np.float32, copy=False)

    def _read(self, name: str, dtype: np.dtype[Any], cap: int) -> Array:
        try:
            info = self._zip.getinfo(f"{name}.npy")
        except KeyError:
            raise _broken(f"the NumPy head has no member {name}.npy") from None
        if info.file_size > min(cap, self._budget):
            fact = f"{name}.npy of the NumPy head states {info.file_size} bytes, {min(cap, self._budget)} are allowed"
            raise _broken(fact)
        self._budget -= info.file_size
        try:
            return _parse_npy(self._zip.read(info), dtype)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, SyntaxError) as error:
            raise _broken(f"{name}.npy of the NumPy head cannot be read: {error}") from None


def _parse_npy(data: bytes, dtype: np.dtype[Any]) -> Array:
    """The array of a `.npy` file. Raises ValueError unless dtype, order and length are exactly as they must be."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in {(1, 0), (2, 0)}:
        msg = f"it is of .npy version {version}, known are 1.0 and 2.0"
        raise ValueError(msg)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, found = read(file)
    if found != dtype or (fortran and len(shape) > 1):
        msg = f"it is {found}{list(shape)}{' in Fortran order' if fortran else ''}, expected {dtype} in C order"
        raise ValueError(msg)
    rest = len(data) - file.tell()
    if rest != math.prod(shape) * dtype.itemsize or min(shape, default=1) < 1:
        msg = f"it states shape {list(shape)} and holds {rest} bytes"
        raise ValueError(msg)
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape)


def _broken(fact: str) -> BundleError:
    return BundleError(f"{fact}; export the head again, or fetch the bundle again")
