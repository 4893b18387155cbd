"""Torch calls that move values, as nodes of the NumPy head's graph. Arguments are those of torch, in torch's order."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import fx

from cloud_worker.build.export.numpy_trace import Trace, rank, shape_of, unsupported


def alias(trace: Trace, node: fx.Node, x: fx.Node, *_arguments: object, **_options: object) -> None:
    """The same value."""
    trace.names[node] = trace.read(node, x)


def view(trace: Trace, node: fx.Node, x: fx.Node, *_arguments: object) -> None:
    """The same values in another shape."""
    trace.names[node] = trace.view(trace.read(node, x), shape_of(node)[1:])


def permute(trace: Trace, node: fx.Node, x: fx.Node, dims: Sequence[int]) -> None:
    """Dimensions in another order, that of the batch first."""
    order = [dim % rank(x) for dim in dims]
    if order[0] != 0:
        raise unsupported(node, "it moves the batch dimension")
    if order == sorted(order):
        alias(trace, node, x)
    else:
        trace.emit(node, "permute", [x], {"order": [dim - 1 for dim in order[1:]]})


def transpose(trace: Trace, node: fx.Node, x: fx.Node, first: int, second: int) -> None:
    """Two dimensions swapped."""
    order = list(range(rank(x)))
    order[first], order[second] = order[second], order[first]
    permute(trace, node, x, order)


def cat(trace: Trace, node: fx.Node, parts: list[fx.Node], dim: int = 0) -> None:
    """One behind the other."""
    axis = dim % rank(node)
    if axis == 0:
        raise unsupported(node, "it joins along the batch dimension")
    trace.emit(node, "concat", parts, {"axis": axis - 1})


def pad(  # noqa: PLR0917 - torch's own order of arguments
    trace: Trace, node: fx.Node, x: fx.Node, pads: Sequence[int], mode: str = "constant", value: float | None = None
) -> None:
    """Values around, of one number."""
    if mode != "constant":
        raise unsupported(node, f"it pads in mode {mode}, only constant is known")
    constant_pad(trace, node, x, pads, value or 0)


def constant_pad(trace: Trace, node: fx.Node, x: fx.Node, pads: Sequence[int], value: float = 0) -> None:
    """`pads` are before and after the last dimension, then before and after the one in front of it, and so on."""
    before, after = ([*pads[side::2], *[0] * (rank(x) - len(pads) // 2)][::-1] for side in (0, 1))
    if min(pads) < 0 or before[0] or after[0] or not math.isfinite(value):
        raise unsupported(node, f"it pads by {list(pads)} with {value}; known are finite numbers, not along the batch")
    trace.emit(node, "pad", [x], {"before": before[1:], "after": after[1:], "value": float(value)})
