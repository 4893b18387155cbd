"""The arithmetic of the NumPy head beside convolution and activations: one sample, channels first, all float32.

Every function is pure: it keeps no state and never writes to its arguments. Shapes are not checked here;
`edge_node.numpy_ops` has checked them once, when the head was opened.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edge_node.numpy_window import Pair, Shifted, Window
from schemas.tensor import FloatArray

_POOL_BLOCK = 1 << 16
"""Elements of the result that a pool makes at a time."""


def linear(x: FloatArray, weight: FloatArray, bias: FloatArray | None) -> FloatArray:
    """(..., n) by (out, n) -> (..., out)."""
    result: FloatArray = weight @ x if x.ndim == 1 else x @ weight.T
    if bias is not None:
        result += bias
    return result


def add(x: FloatArray, y: FloatArray) -> FloatArray:
    """The sum of two tensors, broadcast."""
    return x + y


def sub(x: FloatArray, y: FloatArray) -> FloatArray:
    """The difference of two tensors, broadcast."""
    return x - y


def mul(x: FloatArray, y: FloatArray) -> FloatArray:
    """The product of two tensors, broadcast."""
    return x * y


def matmul(x: FloatArray, y: FloatArray) -> FloatArray:
    """(..., n, k) by (..., k, m) -> (..., n, m)."""
    result: FloatArray = x @ y
    return result


def scale(x: FloatArray, weight: FloatArray, bias: FloatArray | None) -> FloatArray:
    """X * weight + bias, one of each for an index of the first dimension."""
    result: FloatArray = x * weight.reshape(-1, *[1] * (x.ndim - 1))
    if bias is not None:
        result += bias.reshape(-1, *[1] * (x.ndim - 1))
    return result


def layer_norm(
    x: FloatArray, weight: FloatArray | None, bias: FloatArray | None, *, dims: int, epsilon: float
) -> FloatArray:
    """(x - mean) / sqrt(variance + epsilon) over the last `dims` dimensions, then * weight + bias of their shape."""
    axes = tuple(range(-dims, 0))
    result: FloatArray = x - x.mean(axis=axes, keepdims=True)
    variance = np.square(result).mean(axis=axes, keepdims=True)
    result /= np.sqrt(variance + np.float32(epsilon))
    if weight is not None:
        result *= weight
    if bias is not None:
        result += bias
    return result


def softmax(x: FloatArray, *, axis: int) -> FloatArray:
    """exp(x), as shares of their sum along `axis`."""
    result: FloatArray = x - x.max(axis=axis, keepdims=True)
    np.exp(result, out=result)
    result /= result.sum(axis=axis, keepdims=True)
    return result


def concat(*parts: FloatArray, axis: int) -> FloatArray:
    """Tensors one behind the other along `axis`."""
    return np.concatenate(parts, axis=axis)


def flatten(x: FloatArray) -> FloatArray:
    """All values in C order."""
    return x.reshape(-1)


def reshape(x: FloatArray, *, shape: tuple[int, ...]) -> FloatArray:
    """The same values in C order, in another shape."""
    return x.reshape(shape)


def permute(x: FloatArray, *, order: tuple[int, ...]) -> FloatArray:
    """Dimension `order[i]` of the input at place i."""
    return x.transpose(order)


def pad(x: FloatArray, *, before: tuple[int, ...], after: tuple[int, ...], value: float) -> FloatArray:
    """So many constants before and after each dimension."""
    shape = [size + first + last for size, first, last in zip(x.shape, before, after, strict=True)]
    result = np.full(shape, value, dtype=np.float32)
    result[tuple(slice(first, first + size) for size, first in zip(x.shape, before, strict=True))] = x
    return result


def global_avg_pool(x: FloatArray) -> FloatArray:
    """(channels, h, w) -> (channels, 1, 1)."""
    means: FloatArray = x.reshape(x.shape[0], -1).mean(axis=1)
    return means[:, None, None]


def avg_pool(x: FloatArray, window: Window, *, count_include_pad: bool) -> FloatArray:
    """Mean over each window; padding counts as zeros, or with `count_include_pad` false not at all."""
    result = _pool(x, window, 0, np.add)
    if count_include_pad or not any(window.padding):
        result *= np.float32(1 / math.prod(window.kernel))
    else:
        result /= _pool(np.ones((1, *x.shape[1:]), np.float32), window, 0, np.add)
    return result


def max_pool(x: FloatArray, window: Window) -> FloatArray:
    """Maximum over each window; padding never wins."""
    return _pool(x, window, -math.inf, np.maximum)


def adaptive_avg_pool(x: FloatArray, *, size: Pair) -> FloatArray:
    """(channels, h, w) -> (channels, *size): the means of windows that are as equal as they can be."""
    rows = np.stack([x[:, part].mean(axis=1) for part in _parts(x.shape[1], size[0])], axis=1)
    return np.stack([rows[:, :, part].mean(axis=2) for part in _parts(x.shape[2], size[1])], axis=2)


def adaptive_max_pool(x: FloatArray, *, size: Pair) -> FloatArray:
    """(channels, h, w) -> (channels, *size): the maxima of windows that are as equal as they can be."""
    rows = np.stack([x[:, part].max(axis=1) for part in _parts(x.shape[1], size[0])], axis=1)
    return np.stack([rows[:, :, part].max(axis=2) for part in _parts(x.shape[2], size[1])], axis=2)


def _parts(length: int, count: int) -> list[slice]:
    """`count` windows that cover a length, from floor(i * length / count) to ceil((i + 1) * length / count)."""
    return [slice(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def pool_windows(window: Window) -> tuple[Window, Window]:
    """A pool first along the columns, then along the rows: kh + kw steps instead of kh * kw."""
    top, bottom, left, right = window.padding
    down = Window((window.kernel[0], 1), (window.stride[0], 1), (top, bottom, 0, 0), (window.dilation[0], 1))
    across = Window((1, window.kernel[1]), (1, window.stride[1]), (0, 0, left, right), (1, window.dilation[1]))
    return down, across


def _pool(x: FloatArray, window: Window, fill: float, combine: Callable[..., FloatArray]) -> FloatArray:
    down, across = pool_windows(window)
    return _reduced(_reduced(x, down, fill, combine), across, fill, combine)


def _reduced(x: FloatArray, window: Window, fill: float, combine: Callable[..., FloatArray]) -> FloatArray:
    """(channels, h', w'): the values of each window combined."""
    channels, *size = x.shape
    height, width = window.size(size[0], size[1])
    step = min(channels, max(1, _POOL_BLOCK // (height * width)))
    shifted = Shifted(window, step, (size[0], size[1]), fill)
    result = np.empty((channels, height, width), np.float32)
    for start in range(0, channels, step):
        runs = shifted.fill(x[start : start + step])
        total = next(runs).copy()
        for run in runs:
            combine(total, run, out=total)
        result[start : start + step] = shifted.crop(total)
    return result
