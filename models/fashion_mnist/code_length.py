"""How long the cut's integers are under a coder with static integer tables, one for each element. NumPy only.

Integers are (N, elements). Tables are counted on the calibration part and priced on another. A real coder adds a few
bytes for its state; OVERHEAD is that of the one of this project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Ints = NDArray[np.integer]
    Floats = NDArray[np.floating]

PRECISION = 16
"""Frequencies of an element sum to 2 to the power of this."""
PRIOR = 0.1
"""Counted for every symbol beforehand, so that none is impossible."""
OVERHEAD = 3.0
"""Bytes of a payload beyond the ideal code length."""
ROUNDS = 16


class Tables(NamedTuple):
    """Frequencies int64 (elements, symbols); symbol 0 stands for the value `low`, and what lies outside is clipped."""

    low: int
    frequencies: NDArray[np.int64]

    def bits(self, q: Ints) -> Floats:
        """Ideal code length of each sample (N,)."""
        length = PRECISION - np.log2(self.frequencies)
        symbols = np.clip(q - self.low, 0, self.frequencies.shape[1] - 1)
        found: Floats = length[np.arange(q.shape[1]), symbols].sum(axis=1)
        return found


def count(q: Ints) -> Tables:
    """Tables of the integers (N, elements); the alphabet is what occurs, and one more on either side."""
    low = int(q.min()) - 1
    symbols, elements = int(q.max()) - low + 2, q.shape[1]
    flat = np.bincount((q - low + np.arange(elements) * symbols).ravel(), minlength=elements * symbols)
    counts = flat.reshape(elements, symbols) + PRIOR
    shares = counts / counts.sum(axis=1, keepdims=True)
    frequencies = np.floor(shares * (2**PRECISION - symbols)).astype(np.int64) + 1
    frequencies[np.arange(elements), shares.argmax(axis=1)] += 2**PRECISION - frequencies.sum(axis=1)
    return Tables(low, frequencies)


def levels(cut: Floats, gain: Floats) -> Ints:
    """Integers (N, elements) of cuts float32 (N, channels, 7, 7) at a gain for each channel."""
    rounded = np.rint(cut * gain[:, None, None].astype(np.float32)).astype(np.int64)
    found: Ints = rounded.reshape(len(cut), -1)
    return found


def mean_bytes(fitted: Ints, priced: Ints) -> float:
    """Mean payload of `priced` under the tables of `fitted`, OVERHEAD included."""
    return float(count(fitted).bits(priced).mean()) / 8 + OVERHEAD


def factor_for(target: float, size: Callable[[float], float]) -> float:
    """The factor on a rate's gains, a half to twice, at which size(factor), rising, just does not pass `target`."""
    low, high = 0.5, 2.0
    for _ in range(ROUNDS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if size(middle) <= target else (low, middle)
    return low
