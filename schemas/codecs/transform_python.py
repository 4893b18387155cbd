"""The arithmetic of the codec `transform` in NumPy: what `_transform.c` does where nobody could compile it.

Both take every sum in the same order, one float32 multiplication and one addition at a time, so that both, and every
machine, get the same floats to the last bit; a matrix product of a BLAS would not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.tensor import Array, FloatArray


class Sizes(NamedTuple):
    """Of the tensor (channels, height, width), of the frequencies that are kept, and of the channel matrices."""

    channels: int
    height: int
    width: int
    rows: int
    columns: int
    bands: int
    components: int


class Transform:
    """DCT over space, then for each frequency the first few components of its band's channel matrix.

    mean float32[C]; rows float32[U, ceil(H / 2)] and columns float32[V, ceil(W / 2)] are the first halves of the DCT's
    basis vectors, whose second halves mirror them, with the sign turned for odd ones; forward float32[B, C, K] and
    inverse float32[B, K, C]; band uint8[U, V]; kept uint16[U, V]: components coded. Coding order is that of the
    frequencies, row by row, and within one that of its components.
    """

    def __init__(self, sizes: Sizes, *arrays: Array) -> None:
        """The arrays in the order in which they stand above."""
        mean, rows, columns, forward, inverse, band, kept = arrays
        self._sizes, self._mean, self._rows, self._columns = sizes, mean, rows, columns
        self._forward, self._inverse = forward, inverse
        self._bands = [np.flatnonzero(band.ravel() == index) for index in range(sizes.bands)]
        self._coded = np.arange(sizes.components) < kept.reshape(-1, 1)

    def forward(self, x: FloatArray, y: FloatArray) -> None:
        """float32[C, H, W], contiguous, into float32[n], in coding order. Raises ValueError for any other array."""
        channels, height, width = self._sizes[:3]
        if x.dtype != np.float32 or x.shape != (channels, height, width) or not x.flags.c_contiguous:
            msg = f"the tensor is {x.dtype}{list(x.shape)}, not a contiguous float32{[channels, height, width]}"
            raise ValueError(msg)
        with np.errstate(all="ignore"):  # what is not finite is made a level by the quantiser
            y[:] = self._mixed(x)[self._coded]

    def _mixed(self, x: FloatArray) -> FloatArray:
        """float32[U * V, K], all components of every frequency."""
        sizes = self._sizes
        grid = (x - self._mean[:, None, None]).transpose(1, 2, 0)
        lines = _analyse(grid, self._rows)
        frequency = _analyse(lines.transpose(1, 0, 2), self._columns).transpose(1, 0, 2)
        flat = frequency.reshape(-1, sizes.channels)
        mixed = np.zeros((len(flat), sizes.components), np.float32)
        for matrix, places in zip(self._forward, self._bands, strict=True):
            mixed[places] = _ordered_product(flat[places], matrix)
        return mixed

    def inverse(self, y: FloatArray, x: FloatArray) -> None:
        """float32[n] into float32[C, H, W]."""
        sizes = self._sizes
        mixed = np.zeros(self._coded.shape, np.float32)
        mixed[self._coded] = y
        flat = np.zeros((len(mixed), sizes.channels), np.float32)
        for matrix, places in zip(self._inverse, self._bands, strict=True):
            flat[places] = _ordered_product(mixed[places], matrix)
        frequency = flat.reshape(sizes.rows, sizes.columns, sizes.channels)
        lines = _synthesise(frequency.transpose(1, 0, 2), self._columns, sizes.width).transpose(1, 0, 2)
        grid = _synthesise(lines, self._rows, sizes.height)
        x[:] = grid.transpose(2, 0, 1) + self._mean[:, None, None]


def _ordered_product(a: FloatArray, b: FloatArray) -> FloatArray:
    """a[m, i] @ b[i, ...] with the terms added in the order of i."""
    total = np.zeros((len(a), *b.shape[1:]), np.float32)
    for column, row in zip(a.T, b, strict=True):
        total += column.reshape(-1, *[1] * (b.ndim - 1)) * row
    return total


def _analyse(x: FloatArray, basis: FloatArray) -> FloatArray:
    """DCT along the first axis: (lines, ...) to (len(basis), ...)."""
    half = len(x) // 2
    back = x[::-1][:half]
    even = np.concatenate([x[:half] + back, x[half : len(x) - half]])
    out = np.empty((len(basis), *x.shape[1:]), np.float32)
    out[0::2] = _ordered_product(basis[0::2], even)
    out[1::2] = _ordered_product(basis[1::2, :half], x[:half] - back)
    return out


def _synthesise(y: FloatArray, basis: FloatArray, lines: int) -> FloatArray:
    """Its inverse: (len(basis), ...) to (lines, ...)."""
    half = lines // 2
    even = _ordered_product(basis[0::2].T, y[0::2])
    odd = _ordered_product(basis[1::2, :half].T, y[1::2])
    return np.concatenate([even[:half] + odd, even[half:], (even[:half] - odd)[::-1]])
