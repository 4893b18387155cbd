"""The arithmetic of the NumPy head: one sample, channels first, float32 in and float32 out.

Every function is pure: it allocates its result, keeps no state and never writes to its arguments. Shapes
are not checked here; `edge_node.numpy_ops` has checked them once, when the head was opened.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from schemas.tensor import FloatArray

Pair = tuple[int, int]

_LARGE_PATCHES = 1 << 19
"""Elements above which a depthwise convolution shifts instead of copying patches: they leave the cache."""


def conv2d(  # noqa: PLR0917 - the order of every framework
    x: FloatArray, weight: FloatArray, bias: FloatArray | None, stride: Pair, padding: Pair, groups: int
) -> FloatArray:
    """Cross-correlation: (channels, h, w) by (out, channels / groups, kh, kw) -> (out, h', w')."""
    out_channels, _, kh, kw = weight.shape
    height, width = pooled_size(x.shape[1:], (kh, kw), stride, padding)
    if (kh, kw) == (1, 1) and padding == (0, 0) and groups == 1:
        columns = x[:, :: stride[0], :: stride[1]].reshape(x.shape[0], -1)
        result: FloatArray = weight.reshape(out_channels, -1) @ columns
    else:
        patches = _patches(x, (kh, kw), stride, padding, np.float32(0))
        shift = groups == x.shape[0] == out_channels and patches.size > _LARGE_PATCHES
        result = _shifted(patches, weight) if shift else _product(patches, weight, groups)
    if bias is not None:
        result += bias[:, None]
    return _crop(result, height, width)


def linear(x: FloatArray, weight: FloatArray, bias: FloatArray | None) -> FloatArray:
    """(n,) by (out, n) -> (out,)."""
    result: FloatArray = weight @ x
    return result if bias is None else result + bias


def relu(x: FloatArray) -> FloatArray:
    """max(x, 0)."""
    return np.maximum(x, np.float32(0))


def relu6(x: FloatArray) -> FloatArray:
    """min(max(x, 0), 6)."""
    result: FloatArray = np.maximum(x, np.float32(0))
    np.minimum(result, np.float32(6), out=result)
    return result


def hardswish(x: FloatArray) -> FloatArray:
    """X * relu6(x + 3) / 6."""
    result = relu6(x + np.float32(3))
    result *= x
    result *= np.float32(1 / 6)
    return result


def add(x: FloatArray, y: FloatArray) -> FloatArray:
    """The sum of two tensors of one shape."""
    return x + y


def concat(*parts: FloatArray, axis: int) -> FloatArray:
    """Tensors one behind the other along `axis`."""
    return np.concatenate(parts, axis=axis)


def flatten(x: FloatArray) -> FloatArray:
    """All values in C order."""
    return x.reshape(-1)


def global_avg_pool(x: FloatArray) -> FloatArray:
    """(channels, h, w) -> (channels, 1, 1)."""
    means: FloatArray = x.reshape(x.shape[0], -1).mean(axis=1)
    return means[:, None, None]


def avg_pool(x: FloatArray, kernel: Pair, stride: Pair, padding: Pair, *, count_include_pad: bool) -> FloatArray:
    """Mean over each window; padding counts as zeros, or with `count_include_pad` false not at all."""
    result = _pool_sum(x, kernel, stride, padding)
    if count_include_pad or padding == (0, 0):
        return result * np.float32(1 / (kernel[0] * kernel[1]))
    return result / _pool_sum(np.ones((1, *x.shape[1:]), np.float32), kernel, stride, padding)


def max_pool(x: FloatArray, kernel: Pair, stride: Pair, padding: Pair) -> FloatArray:
    """Maximum over each window; padding never wins."""
    patches = _patches(x, kernel, stride, padding, np.float32(-np.inf))
    result = patches[:, 0, 0].copy()
    for i, j in np.ndindex(kernel):
        np.maximum(result, patches[:, i, j], out=result)
    return _crop(result, *pooled_size(x.shape[1:], kernel, stride, padding))


def pooled_size(size: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """(h', w') of a convolution or pool over (h, w), rounded down; not positive when the window is too large."""
    height, width = (
        (n + 2 * pad - window) // step + 1 for n, window, step, pad in zip(size, kernel, stride, padding, strict=True)
    )
    return height, width


def _pool_sum(x: FloatArray, kernel: Pair, stride: Pair, padding: Pair) -> FloatArray:
    patches = _patches(x, kernel, stride, padding, np.float32(0))
    result = patches[:, 0, 0].copy()
    for i, j in list(np.ndindex(kernel))[1:]:
        result += patches[:, i, j]
    return _crop(result, *pooled_size(x.shape[1:], kernel, stride, padding))


def _patches(x: FloatArray, kernel: Pair, stride: Pair, padding: Pair, fill: np.float32) -> FloatArray:
    """A view (channels, kh, kw, *positions) of the padded input: [:, i, j] is the input shifted by (i, j).

    At stride 1 positions is one axis of h' * padded width: whole rows, whose last kw - 1 values `_crop`
    drops, since long runs copy and add several times faster than short ones. Else it is (h', w').
    """
    channels, height, width = x.shape
    (kh, kw), (ph, pw) = kernel, padding
    rows, row = height + 2 * ph + 1, width + 2 * pw
    padded = np.full((channels, rows, row), fill, dtype=np.float32)
    padded[:, ph : ph + height, pw : pw + width] = x
    out_height, out_width = pooled_size((height, width), kernel, stride, padding)
    plane, line, item = padded.strides
    if stride == (1, 1):
        shape: tuple[int, ...] = (channels, kh, kw, out_height * row)
        return as_strided(padded, shape, (plane, line, item, item), writeable=False)
    steps = (plane, line, item, line * stride[0], item * stride[1])
    return as_strided(padded, (channels, kh, kw, out_height, out_width), steps, writeable=False)


def _product(patches: FloatArray, weight: FloatArray, groups: int) -> FloatArray:
    """(out, positions), as one matrix product a group; a depthwise convolution is one group a channel."""
    taps = weight[0].size
    columns = patches.reshape(groups, taps, -1)
    result: FloatArray = np.matmul(weight.reshape(groups, -1, taps), columns)
    return result.reshape(weight.shape[0], -1)


def _shifted(patches: FloatArray, weight: FloatArray) -> FloatArray:
    """(channels, positions) of a depthwise convolution, as one multiply-add for each tap of the kernel."""
    taps = weight.reshape(*weight.shape[:1], *weight.shape[2:], *([1] * (patches.ndim - 3)))
    result: FloatArray = patches[:, 0, 0] * taps[:, 0, 0]
    term = np.empty_like(result)
    for i, j in list(np.ndindex(patches.shape[1:3]))[1:]:
        np.multiply(patches[:, i, j], taps[:, i, j], out=term)
        result += term
    return result.reshape(result.shape[0], -1)


def _crop(result: FloatArray, height: int, width: int) -> FloatArray:
    """(channels, height, width) of a result whose rows may be longer than `width`."""
    return result.reshape(result.shape[0], height, -1)[:, :, :width]
