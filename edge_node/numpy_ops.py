"""The ops of `head.npz`: for each its attributes, the shapes that it takes and gives, and what computes it.

========================  ========================================  ==========================================
op                        attrs (defaults)                          weights, shapes without a batch dimension
========================  ========================================  ==========================================
conv2d                    stride [1, 1], padding [0, 0], groups 1   weight (out, in / groups, kh, kw), bias (out,)
linear                                                              weight (out, n), bias (out,); input (n,)
relu, relu6, hardswish
add                                                                 two inputs of one shape
concat                    axis 0                                    inputs that differ along axis alone
flatten                                                             any shape -> (n,)
global_avg_pool                                                     (c, h, w) -> (c, 1, 1)
avg_pool                  kernel, stride, padding [0, 0],           (c, h, w) -> (c, h', w')
                          count_include_pad true
max_pool                  kernel, stride, padding [0, 0]            (c, h, w) -> (c, h', w')
========================  ========================================  ==========================================

A bias may be left out. Pairs are (vertical, horizontal); padding is on both sides, for a pool at most half
the kernel; sizes round down: h' = (h + 2 padding - kernel) // stride + 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypeVar

from pydantic import Field, ValidationError

from edge_node import numpy_layers as layers
from edge_node.numpy_graph import GraphFile, Node
from schemas.errors import BundleError
from schemas.record import Record, explain
from schemas.tensor import FloatArray

Shape = tuple[int, ...]
Kernel = Callable[..., FloatArray]
Attrs = TypeVar("Attrs", bound=Record)
_Size = Annotated[int, Field(ge=1, le=4096)]
_Pad = Annotated[int, Field(ge=0, le=4096)]
_IMAGE = 3


class Layer(NamedTuple):
    """A node, ready to run: its function of the inputs, its output's shape, the elements it needs besides."""

    run: Kernel
    shape: Shape
    scratch: int = 0


class NoAttrs(Record):
    """An op without attributes."""


class ConcatAttrs(Record):
    """Axis without the batch dimension."""

    axis: Annotated[int, Field(ge=0, le=5)] = 0


class ConvAttrs(Record):
    """A convolution without dilation."""

    stride: tuple[_Size, _Size] = (1, 1)
    padding: tuple[_Pad, _Pad] = (0, 0)
    groups: _Size = 1


class PoolAttrs(Record):
    """A pool over windows."""

    kernel: tuple[_Size, _Size]
    stride: tuple[_Size, _Size]
    padding: tuple[_Pad, _Pad] = (0, 0)


class AvgPoolAttrs(PoolAttrs):
    """Whether the mean counts the padding."""

    count_include_pad: bool = True


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

    def window(self, kernel: layers.Pair, stride: layers.Pair, padding: layers.Pair) -> layers.Pair:
        """(h', w') of a window over the image. Raises BundleError when the window does not fit once."""
        size = layers.pooled_size(self.image()[1:], kernel, stride, padding)
        if min(size) < 1:
            image = list(self.image()[1:])
            raise self.fail(f"a window of {list(kernel)} does not fit into {image} padded by {list(padding)}")
        return size

    def weights(self, expected: Shape) -> tuple[FloatArray, FloatArray | None]:
        """`weight` and, if there is one, `bias`; 0 in `expected` allows any size there."""
        roles = self.node.weights
        if "weight" not in roles or set(roles) - {"weight", "bias"}:
            raise self.fail(f"its weights are {sorted(roles)}, expected weight and perhaps bias")
        weight = self._weight(roles["weight"], expected)
        return weight, self._weight(roles["bias"], weight.shape[:1]) if "bias" in roles else None

    def _weight(self, name: str, expected: Shape) -> FloatArray:
        array = self.file.weight(name)
        matches = [wanted in {0, size} for wanted, size in zip(expected, array.shape, strict=False)]
        if len(array.shape) != len(expected) or not all(matches):
            shown = ", ".join(str(size or "any") for size in expected)
            raise self.fail(f"its weight {name} has shape {list(array.shape)}, expected ({shown})")
        return array


def build(site: Site) -> Layer:
    """The layer for a node. Raises BundleError, naming the node, when anything about it does not fit."""
    op = OPS.get(site.node.op)
    if op is None:
        raise site.fail(f"no op is called {site.node.op!r}, this release knows {', '.join(sorted(OPS))}")
    fewest, most = op.arity
    if not fewest <= len(site.shapes) <= most:
        raise site.fail(f"it has {len(site.shapes)} inputs, expected {fewest} to {most}")
    if site.node.weights and not op.weighted:
        raise site.fail(f"it takes no weights and names {sorted(site.node.weights)}")
    return op.build(site)


def _conv2d(site: Site) -> Layer:
    attrs, (channels, height, width) = site.attrs(ConvAttrs), site.image()
    if channels % attrs.groups:
        raise site.fail(f"{channels} channels do not divide into {attrs.groups} groups")
    weight, bias = site.weights((0, channels // attrs.groups, 0, 0))
    out, _, kh, kw = weight.shape
    if out % attrs.groups:
        raise site.fail(f"{out} output channels do not divide into {attrs.groups} groups")
    size = site.window((kh, kw), attrs.stride, attrs.padding)
    run = functools.partial(
        layers.conv2d, weight=weight, bias=bias, stride=attrs.stride, padding=attrs.padding, groups=attrs.groups
    )
    return Layer(run, (out, *size), _scratch((channels, height, width), (kh, kw), attrs.padding, size))


def _linear(site: Site) -> Layer:
    site.attrs(NoAttrs)
    if len(site.shapes[0]) != 1:
        raise site.fail(f"its input has shape {list(site.shapes[0])}, expected (n,); flatten it first")
    weight, bias = site.weights((0, site.shapes[0][0]))
    return Layer(functools.partial(layers.linear, weight=weight, bias=bias), weight.shape[:1])


def _elementwise(function: Kernel) -> Callable[[Site], Layer]:
    def make(site: Site) -> Layer:
        site.attrs(NoAttrs)
        return Layer(function, site.shapes[0])

    return make


def _add(site: Site) -> Layer:
    site.attrs(NoAttrs)
    left, right = site.shapes
    if left != right:
        raise site.fail(f"its inputs have shapes {list(left)} and {list(right)}, expected equal ones")
    return Layer(layers.add, left)


def _concat(site: Site) -> Layer:
    axis = site.attrs(ConcatAttrs).axis
    first = site.shapes[0]
    others = {shape[:axis] + shape[axis + 1 :] if len(shape) == len(first) else None for shape in site.shapes}
    if axis >= len(first) or len(others) != 1:
        raise site.fail(f"its inputs have shapes {[list(s) for s in site.shapes]}, which do not join along axis {axis}")
    total = sum(shape[axis] for shape in site.shapes)
    return Layer(functools.partial(layers.concat, axis=axis), (*first[:axis], total, *first[axis + 1 :]))


def _flatten(site: Site) -> Layer:
    site.attrs(NoAttrs)
    return Layer(layers.flatten, (math.prod(site.shapes[0]),))


def _global_avg_pool(site: Site) -> Layer:
    site.attrs(NoAttrs)
    return Layer(layers.global_avg_pool, (site.image()[0], 1, 1))


def _avg_pool(site: Site) -> Layer:
    attrs = site.attrs(AvgPoolAttrs)
    run = functools.partial(
        layers.avg_pool,
        kernel=attrs.kernel,
        stride=attrs.stride,
        padding=attrs.padding,
        count_include_pad=attrs.count_include_pad,
    )
    return _pool(site, run, attrs)


def _max_pool(site: Site) -> Layer:
    attrs = site.attrs(PoolAttrs)
    run = functools.partial(layers.max_pool, kernel=attrs.kernel, stride=attrs.stride, padding=attrs.padding)
    return _pool(site, run, attrs)


def _pool(site: Site, run: Kernel, attrs: PoolAttrs) -> Layer:
    if any(2 * pad > window for pad, window in zip(attrs.padding, attrs.kernel, strict=True)):
        raise site.fail(f"padding {list(attrs.padding)} is more than half the kernel {list(attrs.kernel)}")
    size = site.window(attrs.kernel, attrs.stride, attrs.padding)
    return Layer(run, (site.image()[0], *size), _scratch(site.image(), (1, 1), attrs.padding, size))


def _scratch(image: Shape, taps: layers.Pair, padding: layers.Pair, size: layers.Pair) -> int:
    """Elements of the padded input and of its patches, rows in full."""
    channels, height, width = image
    row = width + 2 * padding[1]
    return channels * ((height + 2 * padding[0] + 1) * row + math.prod(taps) * size[0] * row)


@dataclass(frozen=True, slots=True)
class Op:
    """How one op is built, how many inputs it takes (fewest, most), and whether it has weights."""

    build: Callable[[Site], Layer]
    arity: tuple[int, int] = (1, 1)
    weighted: bool = False


OPS: dict[str, Op] = {
    "add": Op(_add, (2, 2)),
    "avg_pool": Op(_avg_pool),
    "concat": Op(_concat, (1, 64)),
    "conv2d": Op(_conv2d, weighted=True),
    "flatten": Op(_flatten),
    "global_avg_pool": Op(_global_avg_pool),
    "hardswish": Op(_elementwise(layers.hardswish)),
    "linear": Op(_linear, weighted=True),
    "max_pool": Op(_max_pool),
    "relu": Op(_elementwise(layers.relu)),
    "relu6": Op(_elementwise(layers.relu6)),
}
