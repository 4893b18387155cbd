"""Windows over an image: which values a kernel meets, and the input laid out so that each tap reads long runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from schemas.tensor import FloatArray

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


class Window(NamedTuple):
    """A kernel's way over an image. Pairs are (vertical, horizontal), sides (top, bottom, left, right)."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)

    def reach(self) -> Pair:
        """Rows and columns from the first tap to the last, both included."""
        return (self.kernel[0] - 1) * self.dilation[0] + 1, (self.kernel[1] - 1) * self.dilation[1] + 1

    def padded(self, height: int, width: int) -> Pair:
        """(h, w) with the padding."""
        top, bottom, left, right = self.padding
        return height + top + bottom, width + left + right

    def size(self, height: int, width: int) -> Pair:
        """(h', w') of a convolution or pool over (h, w), rounded down; not positive when the window is too large."""
        (rows, row), reach = self.padded(height, width), self.reach()
        return (rows - reach[0]) // self.stride[0] + 1, (row - reach[1]) // self.stride[1] + 1

    def meets_padding_alone(self, height: int, width: int) -> bool:
        """Whether there is a window over (h, w) whose every tap lies in the padding."""
        axes = zip((height, width), self.padding[::2], self.kernel, self.stride, self.dilation, strict=True)
        for (length, before, kernel, stride, dilation), count in zip(axes, self.size(height, width), strict=True):
            stop = count * stride - before
            if stop - stride >= length:
                return True
            for start in range(-before, min(0, stop), stride):
                tap = -(start // dilation)
                if tap >= kernel or start + tap * dilation >= length:
                    return True
        return False

    def phases(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(down, across, rows, row): what `Shifted` allocates for each channel.

        Every down-th row and across-th column of the padded input together, and a spare row since runs go on.
        """
        rows, row = self.padded(height, width)
        down, across = min(self.stride[0], rows), min(self.stride[1], row)
        return down, across, -(-rows // down) + 1, -(-row // across)

    def scratch(self, image: tuple[int, ...], copies: int) -> int:
        """At least the elements that a run over (channels, h, w) allocates: its padded input, and copies of results."""
        channels, height, width = image
        rows, row = self.padded(height, width)
        padded = max(math.prod(self.phases(height, width)), (rows + 1) * row)
        return channels * (padded + copies * self.size(height, width)[0] * row)


class Shifted:
    """The padded input of a few channels at a time, as one contiguous run of values for each tap of the kernel.

    A run is (channels, h' * row): output rows in full, of which all but the first w' values are of no account, since
    long runs multiply and add several times faster than short or strided ones.
    """

    def __init__(self, window: Window, channels: int, size: Pair, fill: float) -> None:
        self._window, self._phases = window, window.phases(*size)
        self.height, self.width = window.size(*size)
        self.row = self._phases[3]
        self._padded = np.full((channels, *self._phases), fill, dtype=np.float32)

    def fill(self, x: FloatArray) -> Iterator[FloatArray]:
        """The runs of the taps, in C order, for (c, h, w) with c at most `channels`; valid until the next call."""
        down, across, _, row = self._phases
        top, _, left, _ = self._window.padding
        padded = self._padded[: x.shape[0]]
        for i, j in np.ndindex(down, across):
            part = x[:, (i - top) % down :: down, (j - left) % across :: across]
            first, begin = (top + (i - top) % down) // down, (left + (j - left) % across) // across
            padded[:, i, j, first : first + part.shape[1], begin : begin + part.shape[2]] = part
        flat = padded.reshape(x.shape[0], down, across, -1)
        for i, j in np.ndindex(self._window.kernel):
            i, j = i * self._window.dilation[0], j * self._window.dilation[1]  # noqa: PLW2901
            start = i // down * row + j // across
            yield flat[:, i % down, j % across, start : start + self.height * row]

    def crop(self, run: FloatArray) -> FloatArray:
        """The (channels, h', w') of a run."""
        return run.reshape(-1, self.height, self.row)[:, :, : self.width]


def patches_of(x: FloatArray, window: Window) -> FloatArray:
    """A view (channels, kh, kw, *positions) of the zero-padded input: [:, i, j] is the input shifted by tap (i, j).

    At stride 1 positions is one axis of h' * padded width: whole rows, whose last values are of no account, since long
    runs copy several times faster than short ones. Else it is (h', w').
    """
    channels, height, width = x.shape
    rows, row = window.padded(height, width)
    (kh, kw), (top, _, left, _) = window.kernel, window.padding
    padded = np.zeros((channels, rows + 1, row), dtype=np.float32)
    padded[:, top : top + height, left : left + width] = x
    out_height, out_width = window.size(height, width)
    plane, line, item = padded.strides
    taps = (plane, line * window.dilation[0], item * window.dilation[1])
    if window.stride == (1, 1):
        return as_strided(padded, (channels, kh, kw, out_height * row), (*taps, item), writeable=False)
    steps = (*taps, line * window.stride[0], item * window.stride[1])
    return as_strided(padded, (channels, kh, kw, out_height, out_width), steps, writeable=False)
