"""Torch calls on one value at a time, as nodes of the NumPy head's graph. Arguments are torch's, in its order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import fx

from cloud_worker.build.export.numpy_trace import Trace, rank, shape_of, unsupported

_SIX: Final = 6
_SELU_ALPHA: Final = 1.6732632423543772
_SELU_SCALE: Final = 1.0507009873554805
Operand = fx.Node | float
"""A value, or a number in the call."""


def plain(op: str) -> Callable[..., None]:
    """For an activation without attributes."""

    def export(trace: Trace, node: fx.Node, x: fx.Node) -> None:
        trace.emit(node, op, [x])

    return export


def clamp(trace: Trace, node: fx.Node, x: fx.Node, low: float | None = None, high: float | None = None) -> None:
    """Limits on one side or both."""
    if low == 0 and high in {None, _SIX}:
        trace.emit(node, "relu" if high is None else "relu6", [x])
    else:
        limits = {"low": low, "high": high}
        trace.emit(node, "clip", [x], {side: float(limit) for side, limit in limits.items() if limit is not None})


def clamp_max(trace: Trace, node: fx.Node, x: fx.Node, high: float) -> None:
    """A limit above."""
    clamp(trace, node, x, None, high)


def hardtanh(trace: Trace, node: fx.Node, x: fx.Node, low: float = -1, high: float = 1) -> None:
    """Limits on both sides."""
    clamp(trace, node, x, low, high)


def leaky_relu(trace: Trace, node: fx.Node, x: fx.Node, slope: float = 0.01) -> None:
    """A slope below nought."""
    trace.emit(node, "leaky_relu", [x], {"slope": float(slope)})


def elu(  # noqa: PLR0917 - torch's own order of arguments
    trace: Trace, node: fx.Node, x: fx.Node, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> None:
    """An exponential below nought."""
    if input_scale != 1:
        raise unsupported(node, f"it scales its input by {input_scale}")
    name = trace.append("elu", [trace.read(node, x)], shape_of(x)[1:], {"alpha": float(alpha)})
    trace.names[node] = name if scale == 1 else _times(trace, name, node, scale)


def selu(trace: Trace, node: fx.Node, x: fx.Node) -> None:
    """A scaled exponential linear unit."""
    elu(trace, node, x, _SELU_ALPHA, _SELU_SCALE)


def gelu(trace: Trace, node: fx.Node, x: fx.Node, *, approximate: str = "none") -> None:
    """By erf, or approximated by tanh."""
    trace.emit(node, "gelu", [x], {"approximate": approximate})


def softmax(trace: Trace, node: fx.Node, x: fx.Node, dim: int, dtype: object = None) -> None:  # noqa: ARG001
    """Shares along one dimension; another dtype than float32 is refused by its value's."""
    axis = dim % rank(x)
    if axis == 0:
        raise unsupported(node, "it runs along the batch dimension")
    trace.emit(node, "softmax", [x], {"axis": axis - 1})


def add(trace: Trace, node: fx.Node, x: Operand, y: Operand, alpha: float = 1) -> None:
    """X + alpha * y, broadcast."""
    if _is_constant(trace, x) and not _is_constant(trace, y):
        scaled = trace.read(node, y) if alpha == 1 else _times(trace, trace.read(node, y), y, alpha)
        _with_constant(trace, node, "add", scaled, _constant(trace, node, x))
    elif _is_constant(trace, y):
        _with_constant(trace, node, "add", trace.read(node, x), _constant(trace, node, y) * alpha)
    elif alpha == 1:
        trace.emit(node, "add", [x, y])
    else:
        names = [trace.read(node, x), _times(trace, trace.read(node, y), y, alpha)]
        trace.names[node] = trace.append("add", names, shape_of(node)[1:])


def sub(trace: Trace, node: fx.Node, x: Operand, y: Operand, alpha: float = 1) -> None:
    """X - alpha * y, broadcast."""
    if alpha == 1 and not _is_constant(trace, x) and not _is_constant(trace, y):
        trace.emit(node, "sub", [x, y])
    else:
        add(trace, node, x, y, -alpha)


def rsub(trace: Trace, node: fx.Node, x: Operand, y: Operand, alpha: float = 1) -> None:
    """Y - alpha * x."""
    sub(trace, node, y, x, alpha)


def neg(trace: Trace, node: fx.Node, x: fx.Node) -> None:
    """-x."""
    mul(trace, node, x, -1)


def mul(trace: Trace, node: fx.Node, x: Operand, y: Operand) -> None:
    """X * y, broadcast."""
    if _is_constant(trace, x):
        x, y = y, x
    if _is_constant(trace, y):
        _with_constant(trace, node, "mul", trace.read(node, x), _constant(trace, node, y))
    else:
        trace.emit(node, "mul", [x, y])


def div(trace: Trace, node: fx.Node, x: Operand, y: Operand) -> None:
    """X / y for a constant y: times its reciprocal."""
    divisor = _constant(trace, node, y) if _is_constant(trace, y) else np.zeros(1)
    if not divisor.all():
        raise unsupported(node, f"it divides by {y}, only by constants other than 0 is known")
    _with_constant(trace, node, "mul", trace.read(node, x), 1 / divisor)


def _is_constant(trace: Trace, value: Operand) -> bool:
    return not isinstance(value, fx.Node) or value.name in trace.constants


def _constant(trace: Trace, node: fx.Node, value: Operand) -> NDArray[Any]:
    """In float64, without the batch dimension where it has one."""
    array = np.asarray(trace.constant(node, value) if isinstance(value, fx.Node) else value, np.float64)
    if array.ndim == rank(node):
        array = array[0]
    return array if array.ndim else array.reshape(1)


def _with_constant(trace: Trace, node: fx.Node, op: str, name: str, constant: NDArray[Any]) -> None:
    trace.names[node] = trace.append(op, [name], shape_of(node)[1:], None, {"weight": constant})


def _times(trace: Trace, name: str, value: object, factor: float) -> str:
    """A value of the shape of `value`, times a number."""
    shape = shape_of(value)[1:] if isinstance(value, fx.Node) else (1,)
    return trace.append("mul", [name], shape, None, {"weight": np.array([factor])})
