"""Multiply-accumulates of one traced torch call for one sample.

========================================  ==============================================================
convolution                               output elements * input channels of a group * kernel elements
transposed convolution                    input elements * output channels of a group * kernel elements
linear                                    output elements * input features
matmul, mm, bmm, mv, dot, addmm, baddbmm  output elements * length of the sum
scaled_dot_product_attention              heads * queries * keys * (query features + value features)
einsum of two or more                     product of the sizes of all letters; with an ellipsis 0
lstm, gru, rnn                            time steps * elements of all weight matrices
everything else, regions of torch.cond    0
========================================  ==============================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from torch import fx

from cloud_worker.build.cut.sizes import at, value_of

_Shape = tuple[int, ...]
_MATRIX: Final = 2


def macs_of(node: fx.Node, batch: Any) -> int:
    """Multiply-accumulates for one sample, `batch` being the symbol of the batch size."""
    name = str(node.target).removeprefix("aten.").partition(".")[0]
    count = _COUNTS.get(name)

    def shape(value: Any) -> _Shape:
        found = value_of(value) if isinstance(value, fx.Node) else value
        return tuple(max(0, at(size, batch, 1)) for size in found.shape)

    return 0 if count is None else count(node, shape)


_ShapeOf = Callable[[Any], _Shape]


def _convolution(node: fx.Node, shape: _ShapeOf) -> int:
    transposed = "transpose" in str(node.target) or (
        str(node.target) == "aten.convolution.default" and node.args[6] is True
    )
    positions = math.prod(shape(node.args[0] if transposed else node))
    return positions * math.prod(shape(node.args[1])[1:])


def _linear(node: fx.Node, shape: _ShapeOf) -> int:
    return math.prod(shape(node)) * shape(node.args[1])[-1]


def _product(node: fx.Node, shape: _ShapeOf) -> int:
    return math.prod(shape(node)) * shape(node.args[0])[-1]


def _sum_and_product(node: fx.Node, shape: _ShapeOf) -> int:
    return math.prod(shape(node)) * shape(node.args[1])[-1]


def _attention(node: fx.Node, shape: _ShapeOf) -> int:
    query, key, value = (shape(each) for each in node.args[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _einsum(node: fx.Node, shape: _ShapeOf) -> int:
    equation, operands = str(node.args[0]).replace(" ", ""), node.args[1]
    if not isinstance(operands, Sequence) or len(operands) < _MATRIX or "." in equation:
        return 0
    letters = equation.partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for each, operand in zip(letters, operands, strict=True):
        sizes.update(zip(each, shape(operand), strict=True))
    return math.prod(sizes.values())


def _recurrent(node: fx.Node, shape: _ShapeOf) -> int:
    weights = node.args[2]
    if not isinstance(weights, Sequence):
        return 0
    shapes = [shape(weight) for weight in weights]
    return math.prod(shape(node.args[0])[:-1]) * sum(math.prod(each) for each in shapes if len(each) == _MATRIX)


_COUNTS: Final[dict[str, Callable[[fx.Node, _ShapeOf], int]]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution),
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), _product),
    **dict.fromkeys(("addmm", "baddbmm"), _sum_and_product),
    "scaled_dot_product_attention": _attention,
    "einsum": _einsum,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
}
