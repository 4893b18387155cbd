"""One node of `head.npz` while it is checked and built, and what becomes of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from edge_node.numpy_activations import Activation
from edge_node.numpy_graph import GraphFile, Node
from edge_node.numpy_window import Pair, Window
from schemas.errors import BundleError
from schemas.record import Record, explain
from schemas.tensor import FloatArray

Shape = tuple[int, ...]
Kernel = Callable[..., FloatArray]
Attrs = TypeVar("Attrs", bound=Record)
MAX_RANK = 8
_IMAGE = 3


class Layer(NamedTuple):
    """A node, ready to run: its function of the inputs, its output's shape, the elements it needs besides."""

    run: Kernel
    shape: Shape
    scratch: int = 0
    fuse: Callable[[Activation], Kernel] | None = None
    """What also applies an activation to its output; None where the output may be a view of an input."""
    activation: Activation | None = None
    """What an activation computes."""


class NoAttrs(Record):
    """An op without attributes."""


def fresh(run: Kernel, shape: Shape, scratch: int = 0) -> Layer:
    """A layer whose output is always an array of its own, so that an activation may write into it."""
    return Layer(run, shape, scratch, partial(partial, _then, run))


def _then(run: Kernel, activation: Activation, *inputs: FloatArray) -> FloatArray:
    result = run(*inputs)
    return activation(result, out=result)


@dataclass(frozen=True, slots=True)
class Site:
    """One node while it is being built, with the shapes of its inputs. Every error names the node."""

    node: Node
    shapes: tuple[Shape, ...]
    file: GraphFile

    def fail(self, fact: str) -> BundleError:
        """The error to raise."""
        return BundleError(f"NumPy head, node {self.node.output!r} ({self.node.op}): {fact}; export the head again")

    def attrs(self, kind: type[Attrs]) -> Attrs:
        """The node's attributes. Raises BundleError naming the one that is wrong."""
        try:
            return kind.model_validate(self.node.attrs)
        except ValidationError as error:
            raise self.fail(f"attribute {explain(error)}") from None

    def image(self) -> Shape:
        """The only input's shape. Raises BundleError unless it is (channels, h, w)."""
        if len(self.shapes[0]) != _IMAGE:
            raise self.fail(f"its input has shape {list(self.shapes[0])}, expected (channels, height, width)")
        return self.shapes[0]

    def window(self, window: Window) -> Pair:
        """(h', w') of a window over the image. Raises BundleError when the window does not fit once."""
        size = window.size(*self.image()[1:])
        if min(size) < 1:
            image, reach = list(self.image()[1:]), list(window.reach())
            raise self.fail(f"a window of {reach} does not fit into {image} padded by {list(window.padding)}")
        return size

    def broadcast(self, left: Shape, right: Shape) -> Shape:
        """The shape of two tensors combined value by value. Raises BundleError when they do not fit each other."""
        pairs = list(zip_longest(reversed(left), reversed(right), fillvalue=1))
        if len(pairs) > MAX_RANK or any(a != b and 1 not in {a, b} for a, b in pairs):
            raise self.fail(f"its inputs have shapes {list(left)} and {list(right)}, which do not fit each other")
        return tuple(max(pair) for pair in reversed(pairs))

    def weights(self, expected: Shape) -> tuple[FloatArray, FloatArray | None]:
        """`weight` and, if there is one, `bias`; 0 in `expected` allows any size there."""
        roles = self.node.weights
        if "weight" not in roles or set(roles) - {"weight", "bias"}:
            raise self.fail(f"its weights are {sorted(roles)}, expected weight and perhaps bias")
        weight = self.weight(roles["weight"], expected)
        return weight, self.weight(roles["bias"], weight.shape[:1]) if "bias" in roles else None

    def optional(self, expected: Shape) -> list[FloatArray | None]:
        """`weight` and `bias` of that shape; None for each that there is not."""
        roles = self.node.weights
        if set(roles) - {"weight", "bias"}:
            raise self.fail(f"its weights are {sorted(roles)}, expected weight and perhaps bias, or none")
        return [self.weight(roles[role], expected) if role in roles else None for role in ("weight", "bias")]

    def weight(self, name: str, expected: Shape) -> FloatArray:
        """The array in member `name`. Raises BundleError when its shape is not the expected one; 0 is any size."""
        array = self.file.weight(name)
        matches = [wanted in {0, size} for wanted, size in zip(expected, array.shape, strict=False)]
        if len(array.shape) != len(expected) or not all(matches):
            shown = ", ".join(str(size or "any") for size in expected)
            raise self.fail(f"its weight {name} has shape {list(array.shape)}, expected ({shown})")
        return array

    def elements(self) -> int:
        """Values of the first input."""
        return math.prod(self.shapes[0])
