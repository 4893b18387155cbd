"""Every layer of the NumPy head against torch.nn.functional, over random shapes and attributes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_node import numpy_activations as activations
from edge_node import numpy_layers as layers
from edge_node.numpy_activations import Activation
from edge_node.numpy_conv import conv2d
from edge_node.numpy_window import Window

torch = pytest.importorskip("torch", reason="the reference is torch; the heads' contract is in test_heads.py")
F = torch.nn.functional

Floats = NDArray[np.float32]
SIZE, SMALL = st.integers(1, 12), st.integers(1, 4)
PADDING = st.integers(0, 3)
IMAGE = st.tuples(st.integers(1, 6), SIZE, SIZE)


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def agree(ours: Floats, theirs: object) -> None:
    assert isinstance(theirs, torch.Tensor)
    assert ours.dtype == np.float32
    assert ours.shape == tuple(theirs.shape)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


def sides(padding: tuple[int, int]) -> tuple[int, int, int, int]:
    return padding[0], padding[0], padding[1], padding[1]


@given(
    groups=SMALL, per_group=SMALL, out_per_group=SMALL, size=st.tuples(SIZE, SIZE), kernel=st.tuples(SMALL, SMALL),
    stride=st.tuples(SMALL, SMALL), padding=st.tuples(PADDING, PADDING),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)), bias=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@example(
    groups=1, per_group=3, out_per_group=4, size=(9, 7), kernel=(1, 1), stride=(1, 1), padding=(0, 0),
    dilation=(1, 1), bias=True, seed=0,
)  # fmt: skip
@example(
    groups=1, per_group=3, out_per_group=4, size=(9, 7), kernel=(1, 1), stride=(2, 3), padding=(0, 0),
    dilation=(1, 1), bias=False, seed=0,
)  # fmt: skip
@example(
    groups=1, per_group=3, out_per_group=4, size=(9, 7), kernel=(1, 1), stride=(1, 1), padding=(2, 1),
    dilation=(1, 1), bias=True, seed=0,
)  # fmt: skip
@example(
    groups=4, per_group=1, out_per_group=1, size=(9, 7), kernel=(3, 3), stride=(1, 1), padding=(1, 1),
    dilation=(1, 1), bias=True, seed=0,
)  # fmt: skip
@example(
    groups=4, per_group=1, out_per_group=2, size=(9, 7), kernel=(3, 3), stride=(2, 2), padding=(1, 1),
    dilation=(1, 1), bias=True, seed=0,
)  # fmt: skip
@example(
    groups=24, per_group=1, out_per_group=1, size=(60, 60), kernel=(3, 3), stride=(1, 1), padding=(1, 1),
    dilation=(1, 1), bias=True, seed=0,
)  # fmt: skip
@example(
    groups=24, per_group=1, out_per_group=1, size=(120, 121), kernel=(5, 3), stride=(2, 1), padding=(2, 1),
    dilation=(1, 1), bias=True, seed=0,
)  # fmt: skip
@example(
    groups=24, per_group=1, out_per_group=1, size=(120, 121), kernel=(5, 3), stride=(3, 2), padding=(2, 1),
    dilation=(2, 3), bias=False, seed=0,
)  # fmt: skip
@example(
    groups=1, per_group=24, out_per_group=9, size=(120, 121), kernel=(5, 3), stride=(1, 1), padding=(2, 1),
    dilation=(1, 2), bias=True, seed=0,
)  # fmt: skip
@example(
    groups=1, per_group=24, out_per_group=9, size=(240, 121), kernel=(5, 3), stride=(2, 1), padding=(2, 1),
    dilation=(1, 2), bias=True, seed=0,
)  # fmt: skip
def test_conv2d(  # noqa: PLR0917 - as many as a convolution has
    groups: int,
    per_group: int,
    out_per_group: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    bias: bool,  # noqa: FBT001
    seed: int,
) -> None:
    window = Window(kernel, stride, sides(padding), dilation)
    assume(min(window.size(*size)) >= 1)
    x = normal(seed, groups * per_group, *size)
    weight = normal(seed + 1, groups * out_per_group, per_group, *kernel)
    shift = normal(seed + 2, groups * out_per_group) if bias else None
    theirs = F.conv2d(
        torch.from_numpy(x)[None],
        torch.from_numpy(weight),
        None if shift is None else torch.from_numpy(shift),
        stride,
        padding,
        dilation,
        groups,
    )
    before = x.copy(), weight.copy()
    agree(conv2d(x, weight, shift, window, groups), theirs[0])
    agree(conv2d(x, weight, shift, window, groups, activations.relu6), F.relu6(theirs[0]))
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(weight, before[1])


@given(n=st.integers(1, 300), out=SIZE, bias=st.booleans(), seed=st.integers(0, 99))
def test_linear(n: int, out: int, bias: bool, seed: int) -> None:  # noqa: FBT001
    x, weight, shift = normal(seed, n), normal(seed + 1, out, n), normal(seed + 2, out) if bias else None
    theirs = F.linear(torch.from_numpy(x), torch.from_numpy(weight), None if shift is None else torch.from_numpy(shift))
    agree(layers.linear(x, weight, shift), theirs)


ACTIVATIONS: dict[str, tuple[Activation, Callable[..., object]]] = {
    "relu": (activations.relu, F.relu),
    "relu6": (activations.relu6, F.relu6),
    "clip": (partial(activations.clip, low=-1, high=2.5), partial(F.hardtanh, min_val=-1, max_val=2.5)),
    "leaky_relu": (partial(activations.leaky_relu, slope=0.2), partial(F.leaky_relu, negative_slope=0.2)),
    "elu": (partial(activations.elu, alpha=1.5), partial(F.elu, alpha=1.5)),
    "hardsigmoid": (activations.hardsigmoid, F.hardsigmoid),
    "hardswish": (activations.hardswish, F.hardswish),
    "sigmoid": (activations.sigmoid, F.sigmoid),
    "silu": (activations.silu, F.silu),
    "tanh": (activations.tanh, F.tanh),
    "gelu": (activations.gelu, F.gelu),
    "gelu_tanh": (activations.gelu_tanh, partial(F.gelu, approximate="tanh")),
}


@given(shape=IMAGE, seed=st.integers(0, 99))
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, shape: tuple[int, int, int], seed: int) -> None:
    ours, theirs = ACTIVATIONS[name]
    x = normal(seed, *shape) * 4
    before = x.copy()
    expected = theirs(torch.from_numpy(x))
    agree(ours(x), expected)
    np.testing.assert_array_equal(x, before)
    agree(ours(x, out=x), expected)
    agree(x, expected)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_large_values_and_small_ones(name: str) -> None:
    ours, theirs = ACTIVATIONS[name]
    x = np.array([-1e30, -1e4, -89, -20, -1e-30, -0.0, 1e-30, 1e-3, 20, 89, 1e4, 1e30], np.float32)
    expected = theirs(torch.from_numpy(x))
    assert isinstance(expected, torch.Tensor)
    np.testing.assert_allclose(ours(x), expected.numpy(), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_do_not_hide_nan(name: str) -> None:
    assert np.isnan(ACTIVATIONS[name][0](np.array([np.nan, 1], np.float32))[0])


@given(
    shape=IMAGE, kernel=st.tuples(SMALL, SMALL), stride=st.tuples(SMALL, SMALL), padding=st.tuples(PADDING, PADDING),
    count=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_pools(  # noqa: PLR0917
    shape: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    count: bool,  # noqa: FBT001
    seed: int,
) -> None:
    window = Window(kernel, stride, sides(padding))
    assume(min(window.size(*shape[1:])) >= 1)
    assume(all(2 * pad <= window for pad, window in zip(padding, kernel, strict=True)))
    x = normal(seed, *shape)
    theirs = torch.from_numpy(x)[None]
    agree(layers.max_pool(x, window), F.max_pool2d(theirs, kernel, stride, padding)[0])
    average = F.avg_pool2d(theirs, kernel, stride, padding, count_include_pad=count)[0]
    agree(layers.avg_pool(x, window, count_include_pad=count), average)


@given(shape=IMAGE, others=st.lists(SIZE, max_size=3), axis=st.integers(0, 2), seed=st.integers(0, 99))
def test_concat(shape: tuple[int, int, int], others: list[int], axis: int, seed: int) -> None:
    parts = [normal(seed, *shape[:axis], size, *shape[axis + 1 :]) for size in [shape[axis], *others]]
    agree(layers.concat(*parts, axis=axis), torch.cat([torch.from_numpy(part) for part in parts], axis))


@given(shape=IMAGE, seed=st.integers(0, 99))
def test_add_flatten_and_global_avg_pool(shape: tuple[int, int, int], seed: int) -> None:
    x, y = normal(seed, *shape), normal(seed + 1, *shape)
    agree(layers.add(x, y), torch.from_numpy(x) + torch.from_numpy(y))
    agree(layers.flatten(x), torch.from_numpy(x).flatten())
    agree(layers.global_avg_pool(x), F.adaptive_avg_pool2d(torch.from_numpy(x), 1))
