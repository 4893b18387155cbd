"""The ops of `head.npz`: for each its attributes, the shapes that it takes and gives, and what computes it.

========================  ========================================  ==========================================
op                        attrs (defaults)                          weights, shapes without a batch dimension
========================  ========================================  ==========================================
conv2d                    stride [1, 1], padding [0, 0],            weight (out, in / groups, kh, kw), bias (out,)
                          dilation [1, 1], groups 1
linear                                                              weight (out, n), bias (out,);
                                                                    (..., n) -> (..., out)
relu, relu6, hardswish,
hardsigmoid, sigmoid,
silu, tanh
leaky_relu                slope
elu                       alpha
gelu                      approximate "none" or "tanh"
clip                      low null, high null
softmax                   axis
add, mul                                                            two inputs, or one and a weight, that
                                                                    broadcast as NumPy's do
sub                                                                 two inputs that broadcast
matmul                                                              (..., n, k), (..., k, m) -> (..., n, m), what is
                                                                    in front the same
scale                                                               weight (c,), bias (c,); (c, ...)
layer_norm                dims, epsilon                             weight and bias of the last `dims` dimensions,
                                                                    any of which may be left out
concat                    axis 0                                    inputs that differ along axis alone
flatten                                                             any shape -> (n,)
reshape                   shape                                     of as many values, in C order
permute                   order                                     place i is the input's dimension order[i]
pad                       before, after, value 0                    one number for each dimension
global_avg_pool                                                     (c, h, w) -> (c, 1, 1)
avg_pool                  kernel, stride, padding [0, 0],           (c, h, w) -> (c, h', w')
                          count_include_pad true
max_pool                  kernel, stride, padding [0, 0],           (c, h, w) -> (c, h', w')
                          dilation [1, 1]
adaptive_avg_pool,        size                                      (c, h, w) -> (c, *size): window i is from
adaptive_max_pool                                                   floor(i h / h') to ceil((i + 1) h / h')
========================  ========================================  ==========================================

A bias may be left out. Pairs are (vertical, horizontal); padding is on both sides, or four numbers (top, bottom, left,
right) for a convolution or max_pool; an avg_pool's is at most half the kernel, and each window of a max_pool must meet
a value that is no padding. Sizes round down: h' = (h + top + bottom - dilation (kernel - 1) - 1) // stride + 1. Images
have three dimensions; one-dimensional data is an image of height 1, by a reshape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from edge_node import numpy_activations as activations
from edge_node import numpy_layers as layers
from edge_node import numpy_ops_shape as shaping
from edge_node.numpy_activations import Activation
from edge_node.numpy_conv import conv2d
from edge_node.numpy_site import MAX_RANK, Kernel, Layer, NoAttrs, Shape, Site, fresh
from edge_node.numpy_window import Sides, Window
from schemas.record import Record

__all__ = ["OPS", "Kernel", "Layer", "Shape", "Site", "build"]

_LARGEST = 3.4028234e38
_Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
_Size = Annotated[int, Field(ge=1, le=4096)]
_Pad = Annotated[int, Field(ge=0, le=4096)]
_Pads = tuple[_Pad, _Pad] | tuple[_Pad, _Pad, _Pad, _Pad]


class SlopeAttrs(Record):
    """Of leaky_relu."""

    slope: _Number


class EluAttrs(Record):
    """Of elu."""

    alpha: _Number


class GeluAttrs(Record):
    """Which of the two functions that go by this name."""

    approximate: Literal["none", "tanh"]


class ClipAttrs(Record):
    """None is no limit."""

    low: _Number | None = None
    high: _Number | None = None


class ConvAttrs(Record):
    """A convolution."""

    stride: tuple[_Size, _Size] = (1, 1)
    padding: _Pads = (0, 0)
    dilation: tuple[_Size, _Size] = (1, 1)
    groups: _Size = 1


class AvgPoolAttrs(Record):
    """A mean over windows, and whether it counts the padding."""

    kernel: tuple[_Size, _Size]
    stride: tuple[_Size, _Size]
    padding: tuple[_Pad, _Pad] = (0, 0)
    count_include_pad: bool = True


class MaxPoolAttrs(Record):
    """A maximum over windows."""

    kernel: tuple[_Size, _Size]
    stride: tuple[_Size, _Size]
    padding: _Pads = (0, 0)
    dilation: tuple[_Size, _Size] = (1, 1)


class AdaptiveAttrs(Record):
    """(h', w') of a pool."""

    size: tuple[_Size, _Size]


class NormAttrs(Record):
    """Over how many of the last dimensions, and what keeps the variance from nought."""

    dims: Annotated[int, Field(ge=1, le=8)]
    epsilon: Annotated[float, Field(ge=0, le=_LARGEST)]


class SoftmaxAttrs(Record):
    """Axis without the batch dimension."""

    axis: Annotated[int, Field(ge=0, lt=MAX_RANK)]


def build(site: Site) -> Layer:
    """The layer for a node. Raises BundleError, naming the node, when anything about it does not fit."""
    op = OPS.get(site.node.op)
    if op is None:
        raise site.fail(f"no op is called {site.node.op!r}, this release knows {', '.join(sorted(OPS))}")
    fewest, most = op.arity
    if not fewest <= len(site.shapes) <= most:
        raise site.fail(f"it has {len(site.shapes)} inputs, expected {fewest} to {most}")
    if site.node.weights and not op.weighted:
        raise site.fail(f"it takes no weights and names {sorted(site.node.weights)}")
    return op.build(site)


def _conv2d(site: Site) -> Layer:
    attrs, image = site.attrs(ConvAttrs), site.image()
    if image[0] % attrs.groups:
        raise site.fail(f"{image[0]} channels do not divide into {attrs.groups} groups")
    weight, bias = site.weights((0, image[0] // attrs.groups, 0, 0))
    out, _, kh, kw = weight.shape
    if out % attrs.groups:
        raise site.fail(f"{out} output channels do not divide into {attrs.groups} groups")
    window = Window((kh, kw), attrs.stride, _sides(attrs.padding), attrs.dilation)
    size = site.window(window)
    run = partial(conv2d, weight=weight, bias=bias, window=window, groups=attrs.groups)

    def fuse(activation: Activation) -> Kernel:
        return partial(run, activation=activation)

    return Layer(run, (out, *size), window.scratch(image, kh * kw + 2), fuse)


def _sides(padding: tuple[int, ...]) -> Sides:
    top, bottom, left, right = padding if len(padding) > 2 else (padding[0], padding[0], padding[1], padding[1])  # noqa: PLR2004
    return top, bottom, left, right


def _linear(site: Site) -> Layer:
    site.attrs(NoAttrs)
    *lead, length = site.shapes[0]
    weight, bias = site.weights((0, length))
    return fresh(partial(layers.linear, weight=weight, bias=bias), (*lead, weight.shape[0]), site.elements())


def _elementwise(function: Activation) -> Callable[[Site], Layer]:
    def make(site: Site) -> Layer:
        site.attrs(NoAttrs)
        return _activation(site, function)

    return make


def _activation(site: Site, function: Activation) -> Layer:
    return Layer(function, site.shapes[0], 3 * site.elements(), activation=function)


def _leaky_relu(site: Site) -> Layer:
    return _activation(site, partial(activations.leaky_relu, slope=site.attrs(SlopeAttrs).slope))


def _elu(site: Site) -> Layer:
    return _activation(site, partial(activations.elu, alpha=site.attrs(EluAttrs).alpha))


def _gelu(site: Site) -> Layer:
    is_exact = site.attrs(GeluAttrs).approximate == "none"
    return _activation(site, activations.gelu if is_exact else activations.gelu_tanh)


def _clip(site: Site) -> Layer:
    attrs = site.attrs(ClipAttrs)
    return _activation(site, partial(activations.clip, low=attrs.low, high=attrs.high))


def _arithmetic(function: Kernel) -> Callable[[Site], Layer]:
    def make(site: Site) -> Layer:
        site.attrs(NoAttrs)
        roles = site.node.weights
        if len(site.shapes) + len(roles) != 2 or set(roles) - {"weight"}:  # noqa: PLR2004
            raise site.fail(f"it has {len(site.shapes)} inputs and the weights {sorted(roles)}, expected two in all")
        if not roles:
            return fresh(function, site.broadcast(*site.shapes))
        constant = site.file.weight(roles["weight"])
        return fresh(partial(function, y=constant), site.broadcast(site.shapes[0], constant.shape))

    return make


def _scale(site: Site) -> Layer:
    site.attrs(NoAttrs)
    weight, bias = site.weights(site.shapes[0][:1])
    return fresh(partial(layers.scale, weight=weight, bias=bias), site.shapes[0])


def _layer_norm(site: Site) -> Layer:
    attrs, shape = site.attrs(NormAttrs), site.shapes[0]
    if attrs.dims > len(shape):
        raise site.fail(f"its input has shape {list(shape)}, it normalises over {attrs.dims} dimensions")
    weight, bias = site.optional(shape[-attrs.dims :])
    run = partial(layers.layer_norm, weight=weight, bias=bias, dims=attrs.dims, epsilon=attrs.epsilon)
    return fresh(run, shape, 2 * site.elements())


def _softmax(site: Site) -> Layer:
    axis, shape = site.attrs(SoftmaxAttrs).axis, site.shapes[0]
    if axis >= len(shape):
        raise site.fail(f"its input has shape {list(shape)}, which has no axis {axis}")
    return fresh(partial(layers.softmax, axis=axis), shape, site.elements())


def _matmul(site: Site) -> Layer:
    site.attrs(NoAttrs)
    one, other = site.shapes
    if len(one) < 2 or one[:-2] != other[:-2] or len(one) != len(other) or one[-1] != other[-2]:  # noqa: PLR2004
        raise site.fail(f"it has shapes {list(one)} and {list(other)}, expected (..., n, k) and (..., k, m)")
    return fresh(layers.matmul, (*one[:-1], other[-1]))


def _global_avg_pool(site: Site) -> Layer:
    site.attrs(NoAttrs)
    return fresh(layers.global_avg_pool, (site.image()[0], 1, 1))


def _avg_pool(site: Site) -> Layer:
    attrs = site.attrs(AvgPoolAttrs)
    if any(2 * pad > kernel for pad, kernel in zip(attrs.padding, attrs.kernel, strict=True)):
        raise site.fail(f"padding {list(attrs.padding)} is more than half the kernel {list(attrs.kernel)}")
    window = Window(attrs.kernel, attrs.stride, _sides(attrs.padding))
    return _pool(site, partial(layers.avg_pool, window=window, count_include_pad=attrs.count_include_pad), window)


def _max_pool(site: Site) -> Layer:
    attrs = site.attrs(MaxPoolAttrs)
    window = Window(attrs.kernel, attrs.stride, _sides(attrs.padding), attrs.dilation)
    site.window(window)
    if window.meets_padding_alone(*site.image()[1:]):
        raise site.fail(f"a window of {list(attrs.kernel)} meets only padding, which is {list(attrs.padding)}")
    return _pool(site, partial(layers.max_pool, window=window), window)


def _pool(site: Site, run: Kernel, window: Window) -> Layer:
    channels, height, width = site.image()
    down, across = layers.pool_windows(window)
    size = site.window(window)
    scratch = down.scratch((channels + 1, height, width), 2) + across.scratch((channels + 1, size[0], width), 2)
    return fresh(run, (channels, *size), scratch)


def _adaptive(function: Kernel) -> Callable[[Site], Layer]:
    def make(site: Site) -> Layer:
        size, (channels, _, width) = site.attrs(AdaptiveAttrs).size, site.image()
        return fresh(partial(function, size=size), (channels, *size), channels * size[0] * (2 * width + size[1]))

    return make


@dataclass(frozen=True, slots=True)
class Op:
    """How one op is built, how many inputs it takes (fewest, most), and whether it has weights."""

    build: Callable[[Site], Layer]
    arity: tuple[int, int] = (1, 1)
    weighted: bool = False


OPS: dict[str, Op] = {
    "adaptive_avg_pool": Op(_adaptive(layers.adaptive_avg_pool)),
    "adaptive_max_pool": Op(_adaptive(layers.adaptive_max_pool)),
    "add": Op(_arithmetic(layers.add), (1, 2), weighted=True),
    "avg_pool": Op(_avg_pool),
    "clip": Op(_clip),
    "concat": Op(shaping.concat, (1, 64)),
    "conv2d": Op(_conv2d, weighted=True),
    "elu": Op(_elu),
    "flatten": Op(shaping.flatten),
    "gelu": Op(_gelu),
    "global_avg_pool": Op(_global_avg_pool),
    "hardsigmoid": Op(_elementwise(activations.hardsigmoid)),
    "hardswish": Op(_elementwise(activations.hardswish)),
    "layer_norm": Op(_layer_norm, weighted=True),
    "leaky_relu": Op(_leaky_relu),
    "linear": Op(_linear, weighted=True),
    "matmul": Op(_matmul, (2, 2)),
    "max_pool": Op(_max_pool),
    "mul": Op(_arithmetic(layers.mul), (1, 2), weighted=True),
    "pad": Op(shaping.pad),
    "permute": Op(shaping.permute),
    "relu": Op(_elementwise(activations.relu)),
    "relu6": Op(_elementwise(activations.relu6)),
    "reshape": Op(shaping.reshape),
    "scale": Op(_scale, weighted=True),
    "sigmoid": Op(_elementwise(activations.sigmoid)),
    "silu": Op(_elementwise(activations.silu)),
    "softmax": Op(_softmax),
    "sub": Op(_arithmetic(layers.sub), (2, 2)),
    "tanh": Op(_elementwise(activations.tanh)),
}
