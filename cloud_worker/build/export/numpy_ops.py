"""One torch operator after another, as nodes of the NumPy head's graph."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import fx

from cloud_worker.build.export import numpy_ops_attention as attention
from cloud_worker.build.export import numpy_ops_norm as norms
from cloud_worker.build.export import numpy_ops_shape as shaping
from cloud_worker.build.export import numpy_ops_values as values
from cloud_worker.build.export import numpy_ops_window as windows
from cloud_worker.build.export.numpy_trace import Trace, check_value, unsupported


def export_node(trace: Trace, node: fx.Node) -> None:
    """Add one torch call to the graph. Raises BundleError naming it when the format has no op for it.

    What is computed from parameters and constants alone becomes a constant.
    """
    if str(node.target) in _ASSERTIONS or _folded(trace, node):
        return
    handler = _HANDLERS.get(str(node.target).removeprefix("aten."))
    if node.target is operator.getitem and node.args[1] == 0:
        handler = shaping.alias
    if handler is None:
        names = {name.partition(".")[0] for name in _HANDLERS if not name.startswith("_")}
        known = sorted(names | {"batch_norm"})
        raise unsupported(node, f"known are {', '.join(known)}")
    check_value(node)
    try:
        call = inspect.signature(handler).bind(trace, node, *node.args, **node.kwargs)
    except TypeError as error:
        raise unsupported(node, f"its arguments are not all known ({error})") from None
    handler(*call.args, **call.kwargs)


def _folded(trace: Trace, node: fx.Node) -> bool:
    """Whether the value is a constant, which is then computed."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded in target.tags:  # noqa: SLF001
        return False
    if any(value.name not in trace.constants for value in node.all_input_nodes):
        return False

    def tensor(value: fx.Node) -> Any:
        return torch.from_numpy(trace.constants[value.name])

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), tensor)
    with torch.no_grad():
        result = target(*args, **kwargs)
    if isinstance(result, torch.Tensor):
        trace.constants[node.name] = result.numpy()
    return isinstance(result, torch.Tensor)


_ASSERTIONS: Final = frozenset({"aten._assert_tensor_metadata.default"})
"""They hold for the example, and every sample is of its dtype and shape."""
_HANDLERS: Final[dict[str, Callable[..., None]]] = {
    "_native_batch_norm_legit_no_training.default": norms.batch_norm,
    "_to_copy.default": shaping.alias,
    "_unsafe_view.default": shaping.view,
    "adaptive_avg_pool1d.default": windows.adaptive_avg_pool,
    "adaptive_avg_pool2d.default": windows.adaptive_avg_pool,
    "adaptive_max_pool1d.default": windows.adaptive_max_pool,
    "adaptive_max_pool2d.default": windows.adaptive_max_pool,
    "add.Tensor": values.add,
    "alias.default": shaping.alias,
    "avg_pool1d.default": windows.avg_pool,
    "avg_pool2d.default": windows.avg_pool,
    "bmm.default": attention.matmul,
    "cat.default": shaping.cat,
    "clamp.default": values.clamp,
    "clamp_max.default": values.clamp_max,
    "clamp_min.default": values.clamp,
    "clone.default": shaping.alias,
    "constant_pad_nd.default": shaping.constant_pad,
    "conv1d.default": windows.conv,
    "conv1d.padding": windows.conv,
    "conv2d.default": windows.conv,
    "conv2d.padding": windows.conv,
    "detach.default": shaping.alias,
    "div.Tensor": values.div,
    "elu.default": values.elu,
    "flatten.using_ints": shaping.view,
    "gelu.default": values.gelu,
    "group_norm.default": norms.group_norm,
    "hardsigmoid.default": values.plain("hardsigmoid"),
    "hardswish.default": values.plain("hardswish"),
    "hardtanh.default": values.hardtanh,
    "layer_norm.default": norms.layer_norm,
    "leaky_relu.default": values.leaky_relu,
    "linear.default": norms.linear,
    "matmul.default": attention.matmul,
    "max_pool1d.default": windows.max_pool,
    "max_pool1d_with_indices.default": windows.max_pool,
    "max_pool2d.default": windows.max_pool,
    "max_pool2d_with_indices.default": windows.max_pool,
    "mean.dim": windows.mean,
    "mul.Tensor": values.mul,
    "neg.default": values.neg,
    "pad.default": shaping.pad,
    "permute.default": shaping.permute,
    "relu.default": values.plain("relu"),
    "relu6.default": values.plain("relu6"),
    "reshape.default": shaping.view,
    "rsub.Scalar": values.rsub,
    "scaled_dot_product_attention.default": attention.attention,
    "selu.default": values.selu,
    "sigmoid.default": values.plain("sigmoid"),
    "silu.default": values.plain("silu"),
    "softmax.int": values.softmax,
    "squeeze.default": shaping.view,
    "squeeze.dim": shaping.view,
    "squeeze.dims": shaping.view,
    "sub.Tensor": values.sub,
    "tanh.default": values.plain("tanh"),
    "transpose.int": shaping.transpose,
    "unsqueeze.default": shaping.view,
    "view.default": shaping.view,
}
