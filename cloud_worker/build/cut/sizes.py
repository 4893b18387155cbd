"""Shapes and layouts of traced values, where the batch size is a symbol."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from cloud_worker.build.cut.trace import TRACED_BATCH


def value_of(node: fx.Node) -> Any:
    """What the tracer saw: a tensor without data, a tuple of them, a number or a symbol."""
    return node.meta.get("val")


def sizes_of(value: Tensor) -> list[Any]:
    """Its shape as numbers and expressions: to compare those asks nothing of the data."""
    return [size.node.expr if isinstance(size, torch.SymInt) else size for size in value.shape]


def multiple(size: object, batch: Any) -> int | None:
    """How many times the batch size it is, or None when it is no whole multiple."""
    if not isinstance(size, torch.SymInt):
        return None
    factor = size.node.expr / batch
    return int(factor) if factor.is_Integer else None


def is_known(size: object, batch: Any) -> bool:
    """Whether the batch size alone decides it; else it depends on the data."""
    return not isinstance(size, torch.SymInt) or size.node.expr.free_symbols <= {batch}


def at(size: object, batch: Any, samples: int) -> int:
    """The size for a number of samples; -1 when it depends on the data."""
    if isinstance(size, torch.SymInt):
        return int(size.node.expr.subs(batch, samples)) if is_known(size, batch) else -1
    return int(size)  # type: ignore[call-overload,no-any-return]


def shape_of_sample(value: Tensor, batch: Any) -> tuple[int, ...]:
    """Shape for one sample, without the batch dimension where that is the first."""
    sizes = value.shape[1:] if has_batch(value, batch) else value.shape
    return tuple(at(size, batch, 1) for size in sizes)


def has_batch(value: Tensor, batch: Any) -> bool:
    """Whether the first dimension is the batch, of any size, and no other depends on it."""
    sizes = list(value.shape)
    return bool(sizes) and multiple(sizes[0], batch) == 1 and not any(isinstance(x, torch.SymInt) for x in sizes[1:])


def layout(value: Tensor, batch: Any) -> tuple[int, ...] | None:
    """Dimensions from the slowest to the fastest in memory; None when they lie in order or have gaps."""
    shape = [at(size, batch, TRACED_BATCH) for size in value.shape]
    strides = [at(stride, batch, TRACED_BATCH) for stride in value.stride()]
    order = sorted(range(len(shape)), key=lambda dim: -strides[dim])
    if _is_dense(shape, strides, range(len(shape))) or not _is_dense(shape, strides, order):
        return None
    return tuple(order)


def _is_dense(shape: list[int], strides: list[int], order: Any) -> bool:
    step = 1
    for dim in reversed(order):
        if shape[dim] != 1 and strides[dim] != step:
            return False
        step *= shape[dim]
    return True


def is_ordered(value: Tensor, batch: Any) -> bool:
    """Whether the values lie in memory in the order of the dimensions, without gaps."""
    shape = [at(size, batch, TRACED_BATCH) for size in value.shape]
    strides = [at(stride, batch, TRACED_BATCH) for stride in value.stride()]
    return _is_dense(shape, strides, range(len(shape)))
