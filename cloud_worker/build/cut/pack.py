"""One tensor for all that crosses a cut: what it looks like, and the calls that make it and take it apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import fx

from schemas.tensor import MAX_ELEMENTS, TensorSpec

_MOST_DIMENSIONS: Final = 6
_LARGEST_DIMENSION: Final = 65_536
Shape = tuple[int, ...]


class Packing(NamedTuple):
    """The packed tensor of one sample."""

    shape: Shape
    flat: bool
    """Whether values are flattened; else they keep their shape and stand one after another along the first one."""


class Value(NamedTuple):
    """A tensor that crosses: float32 (N, *shape)."""

    shape: Shape
    ordered: bool
    """Whether it lies in memory in the order of its dimensions."""
    layout: tuple[int, ...] | None
    """The order, batch included, in which it lies in memory, when that is another one without gaps."""


def packing(shapes: Sequence[Shape]) -> Packing:
    """Along the channels when all other dimensions are the same, else flattened to one dimension."""
    first = shapes[0]
    alike = all(shape and shape[1:] == first[1:] for shape in shapes)
    if alike and len(first) <= _MOST_DIMENSIONS:
        return Packing((sum(shape[0] for shape in shapes), *first[1:]), flat=False)
    return Packing((sum(math.prod(shape) for shape in shapes),), flat=True)


def refuse_shape(packed: Packing) -> str | None:
    """Why a packed shape has no spec, or None."""
    largest, elements = max(packed.shape), math.prod(packed.shape)
    if min(packed.shape) < 1:
        return f"a tensor of shape {list(packed.shape)} is empty"
    if largest > _LARGEST_DIMENSION:
        how = "flattened to one dimension, since their shapes differ, they are" if packed.flat else "a dimension is"
        return f"{how} {largest} long, at most {_LARGEST_DIMENSION} is possible; cut where less crosses"
    if elements > MAX_ELEMENTS:
        return f"{elements} values cross, at most {MAX_ELEMENTS} is possible; cut where less crosses"
    return None


def spec_of(packed: Packing) -> TensorSpec:
    """The spec of a packed tensor that `refuse_shape` has nothing against."""
    return TensorSpec(dtype="float32", shape=packed.shape)


def pack(graph: fx.Graph, values: Sequence[tuple[fx.Node, Value]]) -> fx.Node:
    """Add the calls that make one tensor, which lies in memory in the order of its dimensions."""
    packed = packing([value.shape for _, value in values])
    nodes = [node for node, _ in values]
    if packed.flat:
        nodes = [_flattened(graph, node, value.shape) for node, value in values]
    one = nodes[0] if len(nodes) == 1 else graph.call_function(torch.cat, (nodes, 1))
    if packed.flat or all(value.ordered for _, value in values):
        return one
    return graph.call_method("contiguous", (one,))


def unpack(graph: fx.Graph, packed: fx.Node, batch: fx.Node, values: Sequence[Value]) -> list[fx.Node]:
    """Add the calls that give back the values, each in the order in which it lay in memory, without gaps.

    The same kernels then give the same bits.
    """
    flat = packing([value.shape for value in values]).flat
    parts: list[fx.Node] = []
    start = 0
    for value in values:
        length = math.prod(value.shape) if flat else value.shape[0]
        part = packed
        if len(values) > 1:
            part = graph.call_function(torch.narrow, (packed, 1, start, length))
        if flat:
            part = graph.call_function(torch.reshape, (part, (batch, *value.shape)))
        if len(values) > 1:
            part = graph.call_method("contiguous", (part,))
        parts.append(part if value.layout is None else _laid_out(graph, part, value.layout))
        start += length
    return parts


def _flattened(graph: fx.Graph, node: fx.Node, shape: Shape) -> fx.Node:
    if not shape:
        return graph.call_function(torch.unsqueeze, (node, 1))
    return node if len(shape) == 1 else graph.call_function(torch.flatten, (node, 1))


def _laid_out(graph: fx.Graph, node: fx.Node, layout: Sequence[int]) -> fx.Node:
    back = sorted(range(len(layout)), key=lambda dim: layout[dim])
    turned = graph.call_function(torch.permute, (node, tuple(layout)))
    return graph.call_function(torch.permute, (graph.call_method("contiguous", (turned,)), tuple(back)))
