"""The NumPy head's graph while it is being written, and what every torch call needs to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from schemas.errors import BundleError

Ints = int | Sequence[int]
"""Torch takes 3, [3] and [3, 3] for the same."""


class Trace:
    """The graph so far. `names` maps each torch value to the graph's value that equals it."""

    def __init__(self, constants: dict[str, NDArray[Any]]) -> None:
        self.constants = constants
        self.names: dict[fx.Node, str] = {}
        self.nodes: list[dict[str, Any]] = []
        self.arrays: dict[str, NDArray[np.float32]] = {}

    def emit(
        self,
        node: fx.Node,
        op: str,
        inputs: Sequence[object],
        attrs: dict[str, Any] | None = None,
        weights: dict[str, NDArray[Any]] | None = None,
    ) -> None:
        """Append a node that computes the value of `node`. Raises BundleError when an input is a constant."""
        names = {}
        for role, array in (weights or {}).items():
            names[role] = f"w{len(self.arrays)}"
            self.arrays[names[role]] = array.astype(np.float32)
        output = f"v{len(self.nodes)}"
        read = [self.read(node, value) for value in inputs]
        self.nodes.append({"op": op, "inputs": read, "output": output, "attrs": attrs or {}, "weights": names})
        self.names[node] = output

    def read(self, node: fx.Node, value: object) -> str:
        """Name of an input of `node`. Raises BundleError unless it is computed from the module's input."""
        if isinstance(value, fx.Node) and value in self.names:
            return self.names[value]
        raise unsupported(node, f"its input {value} is a constant")

    def constant(self, node: fx.Node, value: fx.Node) -> NDArray[Any]:
        """A parameter or buffer. Raises BundleError when the value is computed."""
        if value.name not in self.constants:
            raise unsupported(node, f"its weight {value} is not a parameter")
        return self.constants[value.name]


def unsupported(node: fx.Node, fact: str) -> BundleError:
    """The error to raise, which says where in the module `node` stands."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    where = f" in {str(stack[-1][0]) or 'the module'}" if stack else ""
    return BundleError(f"{node.name} ({node.target}){where} has no place in a NumPy head: {fact}; change the layer")


def pair(value: Ints) -> list[int]:
    """Vertical and horizontal."""
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def shape_of(value: fx.Node) -> tuple[int, ...]:
    """Shape with the batch dimension."""
    return tuple(value.meta["val"].shape)


def rank(value: fx.Node) -> int:
    """Number of dimensions, that of the batch included."""
    return len(shape_of(value))
