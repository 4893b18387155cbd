"""Torch's products of two computed tensors, as nodes of the NumPy head's graph. Arguments are torch's, in its order."""

from __future__ import annotations

import math

import numpy as np
from torch import fx

from cloud_worker.build.export.numpy_trace import Trace, rank, shape_of, unsupported

_LEAST_RANK = 3


def matmul(trace: Trace, node: fx.Node, x: fx.Node, y: fx.Node) -> None:
    """(N, ..., n, k) by (N, ..., k, m)."""
    one, other = shape_of(x), shape_of(y)
    if len(one) < _LEAST_RANK or len(one) != len(other) or one[:-2] != other[:-2]:
        raise unsupported(node, f"it multiplies {list(one)} by {list(other)}; what is in front must be the same")
    trace.emit(node, "matmul", [x, y])


def attention(  # noqa: PLR0917 - torch's own order of arguments
    trace: Trace,
    node: fx.Node,
    query: fx.Node,
    key: fx.Node,
    value: fx.Node,
    mask: fx.Node | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> None:
    """Softmax(query key' * scale) value, each (N, ..., tokens, features) (Vaswani et al. 2017)."""
    if mask is not None or dropout or is_causal or enable_gqa:
        raise unsupported(node, "it has a mask, dropout or grouped heads, only plain attention is known")
    places = rank(query) - 1
    asked, known = shape_of(query)[1:], shape_of(key)[1:]
    turned = (*known[:-2], known[-1], known[-2])
    order = [*range(places - 2), places - 1, places - 2]
    keys = trace.append("permute", [trace.read(node, key)], turned, {"order": order})
    scores = (*asked[:-1], known[-2])
    name = trace.append("matmul", [trace.read(node, query), keys], scores)
    factor = np.asarray([1 / math.sqrt(asked[-1]) if scale is None else scale], np.float32)
    name = trace.append("mul", [name], scores, weights={"weight": factor})
    name = trace.append("softmax", [name], scores, {"axis": places - 1})
    trace.names[node] = trace.append("matmul", [name, trace.read(node, value)], shape_of(node)[1:])
