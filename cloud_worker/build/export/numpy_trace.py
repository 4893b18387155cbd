"""The NumPy head's graph while it is being written, and what every torch call needs to know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from schemas.errors import BundleError

Ints = int | Sequence[int]
"""Torch takes 3, [3] and [3, 3] for the same."""
Shape = tuple[int, ...]
_VIEWS: Final = ("flatten", "reshape")


class Trace:
    """The graph so far. `names` maps each torch value to the graph's value that equals it, without the batch."""

    def __init__(self, constants: dict[str, NDArray[Any]]) -> None:
        self.constants = constants
        self.names: dict[fx.Node, str] = {}
        self.nodes: list[dict[str, Any]] = []
        self.arrays: dict[str, NDArray[np.float32]] = {}
        self._shapes: dict[str, Shape] = {}
        self._producers: dict[str, dict[str, Any]] = {}

    def start(self, node: fx.Node, name: str) -> None:
        """Name the input."""
        self.names[node] = name
        self._shapes[name] = shape_of(node)[1:]

    def emit(
        self,
        node: fx.Node,
        op: str,
        inputs: Sequence[object],
        attrs: dict[str, Any] | None = None,
        weights: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Append a node that computes the value of `node`. Raises BundleError when an input is a constant."""
        read = [self.read(node, value) for value in inputs]
        self.names[node] = self.append(op, read, shape_of(node)[1:], attrs, weights)

    def append(
        self,
        op: str,
        inputs: list[str],
        shape: Shape,
        attrs: dict[str, Any] | None = None,
        weights: Mapping[str, NDArray[Any]] | None = None,
    ) -> str:
        """Append a node; returns the name of its output, which has that shape without the batch dimension."""
        names = {}
        for role, array in (weights or {}).items():
            names[role] = f"w{len(self.arrays)}"
            self.arrays[names[role]] = array.astype(np.float32)
        output = f"v{len(self.nodes)}"
        self.nodes.append({"op": op, "inputs": inputs, "output": output, "attrs": attrs or {}, "weights": names})
        self._producers[output] = self.nodes[-1]
        self._shapes[output] = shape
        return output

    def view(self, name: str, shape: Shape) -> str:
        """The values of `name` in another shape, from where they were not yet reshaped."""
        name = self.before_views(name)
        if self._shapes[name] == shape:
            return name
        if len(shape) == 1:
            return self.append("flatten", [name], shape)
        return self.append("reshape", [name], shape, {"shape": list(shape)})

    def before_views(self, name: str) -> str:
        """What `name` is a reshape of, or itself."""
        producer = self.producer(name)
        while producer is not None and producer["op"] in _VIEWS:
            name = producer["inputs"][0]
            producer = self.producer(name)
        return name

    def producer(self, name: str) -> dict[str, Any] | None:
        """The node that writes a value; None for the input."""
        return self._producers.get(name)

    def shape(self, name: str) -> Shape:
        """Without the batch dimension."""
        return self._shapes[name]

    def read(self, node: fx.Node, value: object) -> str:
        """Name of an input of `node`. Raises BundleError unless it is computed from the module's input."""
        if isinstance(value, fx.Node) and value in self.names:
            return self.names[value]
        raise unsupported(node, f"its input {value} is a constant")

    def constant(self, node: fx.Node, value: fx.Node) -> NDArray[Any]:
        """A parameter or buffer, or what is computed from them. Raises BundleError when the input is needed for it."""
        if value.name not in self.constants:
            raise unsupported(node, f"its weight {value} is not a parameter")
        return self.constants[value.name]

    def live(self, outputs: Sequence[str]) -> list[dict[str, Any]]:
        """The nodes that the outputs need, in order; the arrays of the others are dropped."""
        needed = set(outputs)
        nodes = []
        for node in reversed(self.nodes):
            if node["output"] in needed:
                needed.update(node["inputs"])
                nodes.append(node)
        used = {name for node in nodes for name in node["weights"].values()}
        self.arrays = {name: array for name, array in self.arrays.items() if name in used}
        return nodes[::-1]


def unsupported(node: fx.Node, fact: str) -> BundleError:
    """The error to raise, which says where in the module `node` stands."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    where = f" in {str(stack[-1][0]) or 'the module'}" if stack else ""
    return BundleError(f"{node.name} ({node.target}){where} has no place in a NumPy head: {fact}; change the layer")


def pair(value: Ints) -> list[int]:
    """Vertical and horizontal."""
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def shape_of(value: fx.Node) -> Shape:
    """Shape with the batch dimension; of several results that of the first."""
    return tuple(_tensor(value).shape)


def rank(value: fx.Node) -> int:
    """Number of dimensions, that of the batch included."""
    return len(shape_of(value))


def check_value(node: fx.Node) -> None:
    """Raises BundleError unless the node's value is float32 with a batch dimension of 1 and at least one more."""
    value = _tensor(node)
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
        raise unsupported(node, f"it gives {getattr(value, 'dtype', type(value).__name__)}, only float32 is known")
    if rank(node) == 1 or math.prod(value.shape) == 0:
        raise unsupported(node, f"it gives shape {list(value.shape)}, expected a batch dimension and values")
    if value.shape[:1] != (1,):
        raise unsupported(node, f"it gives shape {list(value.shape)}, which has no batch dimension of 1 in front")


def _tensor(node: fx.Node) -> Any:
    value = node.meta["val"]
    return value[0] if isinstance(value, (tuple, list)) else value
