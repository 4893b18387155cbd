"""What the way to a worker and back takes, by the size of the frame: a round trip and a rate, from what was seen."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median_low

from edge_node.averages import Hysteresis, weight_of

LEAST_MS = 1.0
"""A gain of less is none."""
_PRIOR_SPREAD = 1e6
"""Variance of frame sizes, in bytes squared, up to which the rate stays near the one assumed."""


@dataclass(frozen=True, slots=True)
class Line:
    """Time on the way of a frame of so many bytes, its reply included."""

    rtt_ms: float = 50.0
    ms_per_byte: float = 0.001

    def ms(self, size: float) -> float:
        """Milliseconds for `size` bytes up."""
        return self.rtt_ms + self.ms_per_byte * size

    @property
    def bytes_per_s(self) -> float:
        """Uplink rate; infinite where size made no difference."""
        return 1000.0 / self.ms_per_byte if self.ms_per_byte > 0 else float("inf")


class LinkEstimate:
    """A line through (bytes, milliseconds on the way) of the last requests, by weighted least squares.

    Recent ones count more, as in recursive least squares with forgetting (Ljung, 1999), and worse ones more than
    better ones. Each passes as the line's own prediction plus the median of the last three errors at about its
    size (within a factor of two), so that one outlier changes nothing. The slope is held near the prior's until
    frames of different sizes were seen (ridge regression), which a node of one operating point never does. `line`
    is what to act on: it follows at once for the worse, after three stable observations for the better (see
    `Hysteresis`).
    """

    def __init__(self, prior: Line | None = None) -> None:
        self.line = prior or Line()
        self.seen = 0
        self._moving = self.line
        self._sums = _Sums(self.line)
        self._last: dict[int, deque[tuple[float, float]]] = {}
        self._hysteresis = Hysteresis(least=LEAST_MS)

    def observe(self, size: float, network_ms: float) -> None:
        """A frame of `size` bytes was `network_ms` on the way, there and back, without queue and compute."""
        self.seen += 1
        before = self._moving.ms(size)
        last = self._last.setdefault(int(size).bit_length(), deque(maxlen=3))
        last.append((size, network_ms))
        passed = before + median_low([ms - self._moving.ms(bytes_) for bytes_, ms in last])
        self._sums.add(size, passed, keep=1.0 - weight_of(passed, before))
        self._moving = self._sums.line()
        usual = self._sums.mean_size
        if self.seen == 1 or self._hysteresis.follows(self._moving.ms(usual), self.line.ms(usual)):
            self.line = self._moving

    def unanswered(self, size: float, waited_ms: float) -> None:
        """Nothing came back in that time: news only where an answer was expected sooner.

        It counts as twice the time, as a timer backs off: the answer would have taken longer than that.
        """
        if waited_ms > self._moving.ms(size):
            self.observe(size, 2.0 * waited_ms)


@dataclass(slots=True)
class _Sums:
    """Weighted sums of a regression of y on x."""

    prior: Line
    w: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def add(self, x: float, y: float, keep: float) -> None:
        """Fade what there is to the share `keep`, and add one point of weight 1."""
        for name, value in {"w": 1.0, "x": x, "y": y, "xx": x * x, "xy": x * y}.items():
            setattr(self, name, keep * getattr(self, name) + value)

    @property
    def mean_size(self) -> float:
        """Bytes of a frame lately; after the first `add`."""
        return self.x / self.w

    def line(self) -> Line:
        """The line with the least squared error; neither rate nor round trip is below 0."""
        x, y = self.mean_size, self.y / self.w
        spread = self.xx - self.w * x * x
        slope = (self.xy - self.w * x * y + _PRIOR_SPREAD * self.prior.ms_per_byte) / (spread + _PRIOR_SPREAD)
        slope = max(0.0, min(slope, y / x if x > 0 else slope))
        return Line(max(0.0, y - slope * x), slope)
