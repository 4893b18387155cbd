"""Linear layers and norms of torch as nodes of the NumPy head's graph. Arguments are those of torch, in its order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import fx

from cloud_worker.build.export.numpy_trace import Trace, rank, shape_of, unsupported

_VECTOR: Final = 2
_CONVOLUTIONS: Final = ("aten.conv2d.", "aten.conv1d.")


def weights_of(trace: Trace, node: fx.Node, weight: fx.Node | None, bias: fx.Node | None) -> dict[str, NDArray[Any]]:
    """Weight and bias by role, those that there are."""
    given = {"weight": weight, "bias": bias}
    return {role: trace.constant(node, value) for role, value in given.items() if value is not None}


def linear(trace: Trace, node: fx.Node, x: fx.Node, weight: fx.Node, bias: fx.Node | None = None) -> None:
    """A matrix product along the last dimension."""
    if rank(x) < _VECTOR:
        raise unsupported(node, f"its input has {rank(x)} dimensions")
    trace.emit(node, "linear", [x], None, weights_of(trace, node, weight, bias))


def batch_norm(  # noqa: PLR0917
    trace: Trace,
    node: fx.Node,
    x: fx.Node,
    weight: fx.Node | None,
    bias: fx.Node | None,
    mean: fx.Node,
    var: fx.Node,
    momentum: float,  # noqa: ARG001 - of no account in eval mode
    eps: float,
) -> None:
    """Times g / sqrt(var + eps), plus beta - mean * that: folded into the layer before where that can take it."""
    scale = 1 / np.sqrt(trace.constant(node, var).astype(np.float64) + eps)
    if weight is not None:
        scale *= trace.constant(node, weight)
    offset = -trace.constant(node, mean).astype(np.float64) * scale
    if bias is not None:
        offset += trace.constant(node, bias)
    if _takes_batch_norm(x):
        _fold(trace, trace.before_views(trace.read(node, x)), scale, offset)
        trace.names[node] = trace.names[x]
    else:
        trace.emit(node, "scale", [x], None, {"weight": scale, "bias": offset})


def _takes_batch_norm(x: fx.Node) -> bool:
    """Whether x is a convolution's output, or a linear layer's for one vector, that nothing else reads."""
    is_vector = str(x.target).startswith("aten.linear.") and rank(x) == _VECTOR
    return len(x.users) == 1 and (is_vector or str(x.target).startswith(_CONVOLUTIONS))


def _fold(trace: Trace, name: str, scale: NDArray[np.float64], offset: NDArray[np.float64]) -> None:
    """W' = w * scale, b' = b * scale + offset."""
    names: dict[str, str] = next(layer for layer in trace.nodes if layer["output"] == name)["weights"]
    kernel = trace.arrays[names["weight"]]
    old = trace.arrays[names["bias"]] if "bias" in names else np.float32(0)
    trace.arrays[names["weight"]] = (kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))).astype(np.float32)
    names.setdefault("bias", f"w{len(trace.arrays)}")
    trace.arrays[names["bias"]] = (old * scale + offset).astype(np.float32)


def layer_norm(  # noqa: PLR0917
    trace: Trace,
    node: fx.Node,
    x: fx.Node,
    shape: Sequence[int],
    weight: fx.Node | None = None,
    bias: fx.Node | None = None,
    eps: float = 1e-5,
    *_cudnn: object,
) -> None:
    """Over the last dimensions."""
    if len(shape) >= rank(x):
        raise unsupported(node, "it normalises over the batch dimension")
    attrs = {"dims": len(shape), "epsilon": float(eps)}
    trace.emit(node, "layer_norm", [x], attrs, weights_of(trace, node, weight, bias))


def group_norm(  # noqa: PLR0917
    trace: Trace,
    node: fx.Node,
    x: fx.Node,
    groups: int,
    weight: fx.Node | None = None,
    bias: fx.Node | None = None,
    eps: float = 1e-5,
    *_cudnn: object,
) -> None:
    """A layer norm of each group's values in one row, then a scale for each channel."""
    shape = shape_of(x)[1:]
    rows = (groups, math.prod(shape) // groups)
    name = trace.view(trace.read(node, x), rows)
    name = trace.append("layer_norm", [name], rows, {"dims": 1, "epsilon": float(eps)})
    name = trace.view(name, shape)
    weights = weights_of(trace, node, weight, bias)
    trace.names[node] = trace.append("scale", [name], shape, None, weights) if weight is not None else name
