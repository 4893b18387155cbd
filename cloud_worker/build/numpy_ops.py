"""One torch operator after another, as nodes of the NumPy head's graph.

Every function below the first takes the arguments of the torch operator that it stands for, in torch's order.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import fx

from cloud_worker.build.numpy_trace import Ints, Trace, pair, rank, shape_of, unsupported

_SIX: Final = 6
_VECTOR: Final = 2
_IMAGE: Final = 4


def export_node(trace: Trace, node: fx.Node) -> None:
    """Add one torch call to the graph. Raises BundleError naming it when the format has no op for it."""
    handler = _HANDLERS.get(str(node.target).removeprefix("aten."))
    if node.target is operator.getitem and node.args[1] == 0:
        handler = _alias
    if handler is None:
        known = sorted({name.partition(".")[0] for name in _HANDLERS} - {_BATCH_NORM} | {"batch_norm"})
        raise unsupported(node, f"known are {', '.join(known)}")
    try:
        call = inspect.signature(handler).bind(trace, node, *node.args, **node.kwargs)
    except TypeError as error:
        raise unsupported(node, f"its arguments are not all known ({error})") from None
    handler(*call.args, **call.kwargs)


def _conv2d(  # noqa: PLR0917 - torch's own order of arguments
    trace: Trace,
    node: fx.Node,
    x: fx.Node,
    weight: fx.Node,
    bias: fx.Node | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> None:
    weights = _weights(trace, node, weight, bias)
    kernel = weights["weight"].shape[2:]
    if pair(dilation) != [1, 1] or rank(x) != _IMAGE:
        raise unsupported(node, f"dilation {dilation}, input of {rank(x)} dimensions")
    if isinstance(padding, str):
        if padding == "same" and not all(size % 2 for size in kernel):
            raise unsupported(node, "padding 'same' of an even kernel differs between the sides")
        padding = [size // 2 for size in kernel] if padding == "same" else 0
    attrs = {"stride": pair(stride), "padding": pair(padding), "groups": groups}
    trace.emit(node, "conv2d", [x], attrs, weights)


def _linear(trace: Trace, node: fx.Node, x: fx.Node, weight: fx.Node, bias: fx.Node | None = None) -> None:
    if rank(x) != _VECTOR:
        raise unsupported(node, f"its input has {rank(x)} dimensions; flatten it first")
    trace.emit(node, "linear", [x], None, _weights(trace, node, weight, bias))


def _weights(trace: Trace, node: fx.Node, weight: fx.Node, bias: fx.Node | None) -> dict[str, NDArray[Any]]:
    found = {"weight": trace.constant(node, weight)}
    return found if bias is None else {**found, "bias": trace.constant(node, bias)}


def _batch_norm(  # noqa: PLR0917
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
    """Fold into the layer before: w' = w * g / sqrt(var + eps), b' = (b - mean) * g / sqrt(var + eps) + beta."""
    if len(x.users) != 1 or not str(x.target).startswith(_FOLDABLE):
        raise unsupported(node, "a BatchNorm must follow a convolution or linear layer whose output nothing else reads")
    producer = next(layer for layer in trace.nodes if layer["output"] == trace.names[x])
    scale = 1 / np.sqrt(trace.constant(node, var).astype(np.float64) + eps)
    if weight is not None:
        scale *= trace.constant(node, weight)
    names = producer["weights"]
    kernel = trace.arrays[names["weight"]]
    old = trace.arrays[names["bias"]] if "bias" in names else np.float32(0)
    shift = (old - trace.constant(node, mean).astype(np.float64)) * scale
    if bias is not None:
        shift += trace.constant(node, bias)
    trace.arrays[names["weight"]] = (kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1))).astype(np.float32)
    names.setdefault("bias", f"w{len(trace.arrays)}")
    trace.arrays[names["bias"]] = shift.astype(np.float32)
    trace.names[node] = trace.names[x]


def _relu(trace: Trace, node: fx.Node, x: fx.Node) -> None:
    trace.emit(node, "relu", [x])


def _relu6(trace: Trace, node: fx.Node, x: fx.Node) -> None:
    trace.emit(node, "relu6", [x])


def _hardswish(trace: Trace, node: fx.Node, x: fx.Node) -> None:
    trace.emit(node, "hardswish", [x])


def _clamp(trace: Trace, node: fx.Node, x: fx.Node, low: float | None = -1, high: float | None = None) -> None:
    if low != 0 or high not in {None, _SIX}:
        raise unsupported(node, f"it clips to [{low}, {high}], only [0, 6] and [0, inf) are known")
    trace.emit(node, "relu" if high is None else "relu6", [x])


def _hardtanh(trace: Trace, node: fx.Node, x: fx.Node, low: float = -1, high: float = 1) -> None:
    _clamp(trace, node, x, low, high)


def _add(trace: Trace, node: fx.Node, x: fx.Node, y: object, alpha: float = 1) -> None:
    if not isinstance(y, fx.Node) or alpha != 1 or shape_of(x) != shape_of(y):
        raise unsupported(node, f"it adds {alpha} times {y}, which is not of shape {list(shape_of(x))}")
    trace.emit(node, "add", [x, y])


def _cat(trace: Trace, node: fx.Node, parts: list[fx.Node], dim: int = 0) -> None:
    axis = dim % rank(parts[0])
    if axis == 0:
        raise unsupported(node, "it joins along the batch dimension")
    trace.emit(node, "concat", parts, {"axis": axis - 1})


def _max_pool2d(  # noqa: PLR0917
    trace: Trace,
    node: fx.Node,
    x: fx.Node,
    kernel: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,  # noqa: FBT001, FBT002
) -> None:
    if ceil_mode or pair(dilation) != [1, 1]:
        raise unsupported(node, f"ceil_mode {ceil_mode}, dilation {dilation}")
    attrs = {"kernel": pair(kernel), "stride": pair(stride or kernel), "padding": pair(padding)}
    trace.emit(node, "max_pool", [x], attrs)


def _avg_pool2d(  # noqa: PLR0917
    trace: Trace,
    node: fx.Node,
    x: fx.Node,
    kernel: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    ceil_mode: bool = False,  # noqa: FBT001, FBT002
    count_include_pad: bool = True,  # noqa: FBT001, FBT002
    divisor_override: int | None = None,
) -> None:
    if ceil_mode or divisor_override is not None:
        raise unsupported(node, f"ceil_mode {ceil_mode}, divisor_override {divisor_override}")
    attrs = {"kernel": pair(kernel), "stride": pair(stride or kernel), "padding": pair(padding)}
    trace.emit(node, "avg_pool", [x], {**attrs, "count_include_pad": count_include_pad})


def _adaptive_avg_pool2d(trace: Trace, node: fx.Node, x: fx.Node, size: Ints) -> None:
    if pair(size) != [1, 1]:
        raise unsupported(node, f"it pools to {size}, only to 1 is known")
    trace.emit(node, "global_avg_pool", [x])


def _mean(trace: Trace, node: fx.Node, x: fx.Node, dims: list[int], keepdim: bool = False) -> None:  # noqa: FBT001, FBT002
    if rank(x) != _IMAGE or {dim % _IMAGE for dim in dims} != {2, 3}:
        raise unsupported(node, f"it averages over {dims}, only over height and width is known")
    trace.emit(node, "global_avg_pool", [x])
    if not keepdim:
        trace.nodes.append({"op": "flatten", "inputs": [trace.names[node]], "output": f"v{len(trace.nodes)}"})
        trace.names[node] = trace.nodes[-1]["output"]


def _view(trace: Trace, node: fx.Node, x: fx.Node, *_arguments: object) -> None:
    given, wanted = shape_of(x), shape_of(node)
    if given == wanted:
        _alias(trace, node, x)
    elif wanted == (1, math.prod(given)):
        trace.emit(node, "flatten", [x])
    else:
        raise unsupported(node, f"it makes {list(wanted)} of {list(given)}, only flattening is known")


def _alias(trace: Trace, node: fx.Node, x: fx.Node, *_arguments: object, **_options: object) -> None:
    trace.names[node] = trace.read(node, x)


_BATCH_NORM: Final = "_native_batch_norm_legit_no_training"
_FOLDABLE: Final = ("aten.conv2d.", "aten.linear.")
_HANDLERS: Final[dict[str, Callable[..., None]]] = {
    f"{_BATCH_NORM}.default": _batch_norm,
    "adaptive_avg_pool2d.default": _adaptive_avg_pool2d,
    "add.Tensor": _add,
    "alias.default": _alias,
    "avg_pool2d.default": _avg_pool2d,
    "cat.default": _cat,
    "clamp.default": _clamp,
    "clamp_min.default": _clamp,
    "clone.default": _alias,
    "conv2d.default": _conv2d,
    "conv2d.padding": _conv2d,
    "detach.default": _alias,
    "hardswish.default": _hardswish,
    "hardtanh.default": _hardtanh,
    "linear.default": _linear,
    "max_pool2d.default": _max_pool2d,
    "mean.dim": _mean,
    "relu.default": _relu,
    "relu6.default": _relu6,
    "squeeze.default": _view,
    "squeeze.dim": _view,
    "squeeze.dims": _view,
    "view.default": _view,
}
