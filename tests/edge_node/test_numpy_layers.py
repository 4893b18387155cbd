"""Every layer of the NumPy head against torch.nn.functional, over random shapes and attributes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_node import numpy_layers as layers

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


@given(
    groups=SMALL, per_group=SMALL, out_per_group=SMALL, size=st.tuples(SIZE, SIZE), kernel=st.tuples(SMALL, SMALL),
    stride=st.tuples(SMALL, SMALL), padding=st.tuples(PADDING, PADDING), bias=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@example(
    groups=1, per_group=3, out_per_group=4, size=(9, 7), kernel=(1, 1), stride=(1, 1), padding=(0, 0),
    bias=True, seed=0,
)  # fmt: skip
@example(
    groups=1, per_group=3, out_per_group=4, size=(9, 7), kernel=(1, 1), stride=(2, 3), padding=(0, 0),
    bias=False, seed=0,
)  # fmt: skip
@example(
    groups=1, per_group=3, out_per_group=4, size=(9, 7), kernel=(1, 1), stride=(1, 1), padding=(2, 1),
    bias=True, seed=0,
)  # fmt: skip
@example(
    groups=4, per_group=1, out_per_group=1, size=(9, 7), kernel=(3, 3), stride=(1, 1), padding=(1, 1),
    bias=True, seed=0,
)  # fmt: skip
@example(
    groups=4, per_group=1, out_per_group=2, size=(9, 7), kernel=(3, 3), stride=(2, 2), padding=(1, 1),
    bias=True, seed=0,
)  # fmt: skip
@example(
    groups=24, per_group=1, out_per_group=1, size=(60, 60), kernel=(3, 3), stride=(1, 1), padding=(1, 1),
    bias=True, seed=0,
)  # fmt: skip
@example(
    groups=24, per_group=1, out_per_group=1, size=(120, 121), kernel=(5, 3), stride=(2, 1), padding=(2, 1),
    bias=True, seed=0,
)  # fmt: skip
def test_conv2d(  # noqa: PLR0917 - as many as a convolution has
    groups: int,
    per_group: int,
    out_per_group: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    bias: bool,  # noqa: FBT001
    seed: int,
) -> None:
    assume(min(layers.pooled_size(size, kernel, stride, padding)) >= 1)
    x = normal(seed, groups * per_group, *size)
    weight = normal(seed + 1, groups * out_per_group, per_group, *kernel)
    shift = normal(seed + 2, groups * out_per_group) if bias else None
    theirs = F.conv2d(
        torch.from_numpy(x)[None],
        torch.from_numpy(weight),
        None if shift is None else torch.from_numpy(shift),
        stride,
        padding,
        groups=groups,
    )
    before = x.copy(), weight.copy()
    agree(layers.conv2d(x, weight, shift, stride, padding, groups), theirs[0])
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(weight, before[1])


@given(n=st.integers(1, 300), out=SIZE, bias=st.booleans(), seed=st.integers(0, 99))
def test_linear(n: int, out: int, bias: bool, seed: int) -> None:  # noqa: FBT001
    x, weight, shift = normal(seed, n), normal(seed + 1, out, n), normal(seed + 2, out) if bias else None
    theirs = F.linear(torch.from_numpy(x), torch.from_numpy(weight), None if shift is None else torch.from_numpy(shift))
    agree(layers.linear(x, weight, shift), theirs)


@given(shape=IMAGE, seed=st.integers(0, 99))
@pytest.mark.parametrize("name", ["relu", "relu6", "hardswish"])
def test_elementwise(name: str, shape: tuple[int, int, int], seed: int) -> None:
    x = normal(seed, *shape) * 4
    before = x.copy()
    agree(getattr(layers, name)(x), getattr(F, name)(torch.from_numpy(x)))
    np.testing.assert_array_equal(x, before)


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
    assume(min(layers.pooled_size(shape[1:], kernel, stride, padding)) >= 1)
    assume(all(2 * pad <= window for pad, window in zip(padding, kernel, strict=True)))
    x = normal(seed, *shape)
    theirs = torch.from_numpy(x)[None]
    agree(layers.max_pool(x, kernel, stride, padding), F.max_pool2d(theirs, kernel, stride, padding)[0])
    average = F.avg_pool2d(theirs, kernel, stride, padding, count_include_pad=count)[0]
    agree(layers.avg_pool(x, kernel, stride, padding, count_include_pad=count), average)


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


def test_nan_is_not_hidden() -> None:
    x = np.array([np.nan, 1], np.float32)
    for layer in (layers.relu, layers.relu6, layers.hardswish):
        assert np.isnan(layer(x)[0])
