"""What an entropy coder is made from: tables and a quantiser. Each raises ConfigError for what it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from schemas.codecs.rans_python import TOTAL
from schemas.errors import ConfigError
from schemas.tensor import Array, FloatArray

_INT16: Final = np.iinfo(np.int16)
_SINGLE: Final = np.finfo(np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """Frequencies of the values low, low + 1 and so on, then of ESCAPE, which stands for any other int16 value."""

    low: int
    freqs: NDArray[np.uint16]
    """Each 1 or more, `TOTAL` together; the last one is ESCAPE's. See `normalise`."""

    def __post_init__(self) -> None:
        check_array("freqs", self.freqs, np.uint16, (self.freqs.size,))
        check_all("freqs", self.freqs >= 1, self.freqs, "1 or more")
        total, high = int(self.freqs.sum(dtype=np.int64)), self.low + len(self.freqs) - 2
        if total != TOTAL or len(self.freqs) < 2:  # noqa: PLR2004 - a value and ESCAPE
            msg = f"entropy coder: freqs has {len(self.freqs)} items of sum {total}, must be 2 or more of {TOTAL}"
            raise ConfigError(msg)
        if self.low < _INT16.min or high > _INT16.max:
            msg = f"entropy coder: low is {self.low} and the last value {high}, both must be int16"
            raise ConfigError(msg)


@dataclass(frozen=True, eq=False, slots=True)
class Quantiser:
    """How values become levels and back, each float32[n] in coding order.

    Level: sign(u) * floor(abs(u) + offset) with u = value * inverse_step, at most 32767 in size; NaN is level 0.
    Value: (level + sign(level) * shift) * step.
    """

    inverse_step: FloatArray
    offset: FloatArray
    """0.5 rounds to the nearest; less widens the zone around 0 that becomes level 0."""
    step: FloatArray
    shift: FloatArray
    """Outward from the level, in steps, between -1 and 1."""

    def __post_init__(self) -> None:
        for name in ("inverse_step", "offset", "step", "shift"):
            check_array(name, getattr(self, name), np.float32, (self.inverse_step.size,))
        inverse, most = self.inverse_step, _SINGLE.max / np.float32(1 << 16)
        check_all("inverse_step", (inverse >= _SINGLE.tiny) & (inverse <= _SINGLE.max), inverse, "normal and positive")
        check_all("offset", (self.offset >= 0) & (self.offset < 1), self.offset, "0 or more and below 1")
        check_all("step", (self.step >= _SINGLE.tiny) & (self.step <= most), self.step, f"normal, at most {most:.4g}")
        check_all("shift", np.abs(self.shift) < 1, self.shift, "between -1 and 1")

    @classmethod
    def rounding(cls, count: int) -> Self:
        """Levels are the nearest integers, and come back as they are."""
        one = np.ones(count, np.float32)
        return cls(one, np.full_like(one, 0.5), one, np.zeros_like(one))


def normalise(counts: Sequence[int], sum_to: int = TOTAL) -> NDArray[np.uint16]:
    """Frequencies of `Table` in proportion to the counts, ESCAPE's last: integers only, the same on every machine.

    What would get less than 1 gets 1; the others share the rest by largest remainder, the earlier first among equal
    ones. Raises ConfigError unless there are 2 to `sum_to` counts, none negative, at least one of them positive.
    """
    exact = [int(count) for count in counts]
    if not 2 <= len(exact) <= sum_to or min(exact) < 0 or not any(exact):  # noqa: PLR2004
        msg = f"entropy coder: counts has {len(exact)} items of sum {sum(exact)}, must be 2 to {sum_to} of 0 or more"
        raise ConfigError(msg)
    freqs = [1] * len(exact)
    shared = _large(exact, sum_to)
    room, total = sum_to - len(exact) + len(shared), sum(exact[place] for place in shared)
    for place in shared:
        freqs[place] = exact[place] * room // total
    shared.sort(key=lambda place: (-(exact[place] * room % total), place))
    for place in shared[: sum_to - sum(freqs)]:
        freqs[place] += 1
    return np.array(freqs, np.uint16)


def _large(counts: list[int], sum_to: int) -> list[int]:
    """Places whose share of what the others leave is 1 or more; every other place takes 1."""
    places = list(range(len(counts)))
    while True:
        room, total = sum_to - len(counts) + len(places), sum(counts[place] for place in places)
        large = [place for place in places if counts[place] * room >= total]
        if len(large) == len(places):
            return places
        places = large


def check_array(name: str, array: Array, dtype: type, shape: tuple[int, ...]) -> None:
    """Raise ConfigError, naming the field, for an array of another dtype or shape."""
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        expected = f"{np.dtype(dtype)}{list(shape)}"
        msg = f"entropy coder: {name} is {array.dtype}{list(array.shape)}, must be {expected}; convert it"
        raise ConfigError(msg)


def check_all(name: str, good: NDArray[np.bool_], array: Array, rule: str) -> None:
    """Raise ConfigError, naming the first item that is not good."""
    if not good.all():
        place = int(np.argmin(good))
        msg = f"entropy coder: {name}[{place}] is {array.flat[place]}, must be {rule}"
        raise ConfigError(msg)
