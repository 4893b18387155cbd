"""Convolution of the NumPy head: one sample, channels first, float32 in and float32 out.

It is one matrix product (BLAS) for each block of output positions, over copied patches; a large depthwise one is a
multiply-add of the shifted input for each tap of the kernel, a few channels at a time. Blocks are so small that what
follows, the bias and the activation, finds them in the processor's cache.
"""

from __future__ import annotations

import math

import numpy as np

from edge_node.numpy_activations import Activation
from edge_node.numpy_window import Shifted, Window, patches_of
from schemas.tensor import FloatArray

_LARGE_PATCHES = 1 << 19
"""Elements above which a depthwise convolution shifts instead of copying patches: they leave the cache."""
_BLOCK = 1 << 19
"""Elements that one matrix product reads and writes."""
_DEPTHWISE_BLOCK = 1 << 16
"""Elements of the result that a depthwise convolution makes at a time."""


def conv2d(  # noqa: PLR0917 - the order of every framework
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None,
    window: Window,
    groups: int = 1,
    activation: Activation | None = None,
) -> FloatArray:
    """Cross-correlation: (channels, h, w) by (out, channels / groups, kh, kw) -> (out, h', w').

    `activation` is applied to the result, in place; it never sees `x`.
    """
    height, width = window.size(x.shape[1], x.shape[2])
    if window.kernel == (1, 1) and window.padding == (0, 0, 0, 0):
        down, across = window.stride
        patches = x[:, ::down, ::across].reshape(x.shape[0], 1, 1, -1)
    elif groups == x.shape[0] == weight.shape[0] and weight.size * height * width > _LARGE_PATCHES:
        return _depthwise(x, weight, bias, window, activation)
    else:
        patches = patches_of(x, window)
    result = _product(patches, weight, bias, groups, activation)
    return result.reshape(weight.shape[0], height, -1)[:, :, :width]


def _product(
    patches: FloatArray, weight: FloatArray, bias: FloatArray | None, groups: int, activation: Activation | None
) -> FloatArray:
    """(groups, out / groups, positions), by one matrix product a block and group."""
    outs, taps = weight.shape[0], weight[0].size
    first, inner = patches.shape[3], math.prod(patches.shape[4:])
    kernels = weight.reshape(groups, -1, taps)
    shift = None if bias is None else bias.reshape(groups, -1, 1)
    result = np.empty((groups, outs // groups, first * inner), np.float32)
    step = max(1, _BLOCK // ((groups * taps + outs) * inner))
    for start in range(0, first, step):
        columns = patches[:, :, :, start : start + step].reshape(groups, taps, -1)
        block = result[:, :, start * inner : (start + step) * inner]
        np.matmul(kernels, columns, out=block)
        if shift is not None:
            block += shift
        if activation is not None:
            activation(block, out=block)
    return result


def _depthwise(
    x: FloatArray, weight: FloatArray, bias: FloatArray | None, window: Window, activation: Activation | None
) -> FloatArray:
    """(channels, h', w'), each channel by its own kernel."""
    channels = x.shape[0]
    height, width = window.size(x.shape[1], x.shape[2])
    step = min(channels, max(1, _DEPTHWISE_BLOCK // (height * width)))
    shifted = Shifted(window, step, (x.shape[1], x.shape[2]), 0)
    kernels = weight.reshape(channels, -1, 1)
    result = np.empty((channels, height, width), np.float32)
    sums, terms = np.empty((2, step, height * shifted.row), np.float32)
    for start in range(0, channels, step):
        part = slice(start, start + step)
        runs = shifted.fill(x[part])
        total, term = sums[: channels - start], terms[: channels - start]
        np.multiply(next(runs), kernels[part, 0], out=total)
        for tap, run in enumerate(runs, 1):
            np.multiply(run, kernels[part, tap], out=term)
            total += term
        if bias is not None:
            total += bias[part, None]
        if activation is not None:
            activation(total, out=total)
        result[part] = shifted.crop(total)
    return result
