"""Live estimates that the router reads: how long things take and what they cost, by what was just seen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from schemas.bundle import OperatingPoint
from schemas.policy import Prices

_REPLY_BYTES = 45.0
_FRAME_OVERHEAD_BYTES = 70.0
_WAIT_MS, _ENCODE_MS = 50.0, 0.5


@dataclass(slots=True)
class Ewma:
    """Exponentially weighted moving average; the first observation replaces the prior."""

    value: float
    weight: float = 0.2
    seen: int = 0

    def observe(self, value: float) -> None:
        """Take one observation."""
        self.value = value if self.seen == 0 else self.value + self.weight * (value - self.value)
        self.seen += 1


class FadingEwma:
    """An average of what only a request that was shipped can tell; what nothing refreshes is not held for ever.

    One slow reply may keep all requests with a short deadline on the edge, and then nothing would ever correct
    it. So after `patience_s` without news, by `clock`, the value fades towards the best that was seen, or the
    prior where that is better, half the way in each further `patience_s`: until a request tries again.
    """

    def __init__(self, prior: float, clock: Callable[[], float], patience_s: float = 10.0) -> None:
        self._average = Ewma(prior)
        self._floor = prior
        self._clock, self._patience_s = clock, patience_s
        self._news = -math.inf

    @property
    def seen(self) -> int:
        """How many observations there were."""
        return self._average.seen

    @property
    def value(self) -> float:
        """The average, faded by how old it is."""
        value, late_s = self._average.value, self._clock() - self._news - self._patience_s
        if late_s <= 0 or value <= self._floor:
            return value
        return self._floor + (value - self._floor) * math.exp2(-late_s / self._patience_s)

    def observe(self, value: float) -> None:
        """Take one observation; it pulls at the value as it has faded."""
        self._average.value = self.value
        self._average.observe(value)
        self._floor = min(self._floor, value)
        self.hold()

    def hold(self) -> None:
        """Whoever tried did not see a better one: the average stands again, as if it were new."""
        self._news = self._clock()


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a route is expected to take for one sample."""

    latency_ms: float
    cost: float
    """US dollars."""


@dataclass(slots=True)
class Estimates:
    """Averages of this node's own experience, in milliseconds and bytes. Priors hold until something is seen."""

    clock: Callable[[], float] = time.monotonic
    max_payload: Mapping[int, int] = field(default_factory=dict)
    """By operating point: what is expected of one that the bundle has no mean of."""

    head_ms: Ewma = field(default_factory=lambda: Ewma(5.0))
    """Preprocessing and head."""
    encode_ms: FadingEwma = field(init=False)
    cloud_wait_ms: dict[str, FadingEwma] = field(default_factory=dict)
    """From publishing to the reply, by part (`tail`, `full`)."""
    compute_ms: dict[str, Ewma] = field(default_factory=dict)
    """A worker's compute for one frame, by part."""
    payload_bytes: dict[int, Ewma] = field(default_factory=dict)
    """By operating point."""

    def __post_init__(self) -> None:
        self.encode_ms = FadingEwma(_ENCODE_MS, self.clock)

    def wait(self, part: str) -> FadingEwma:
        """Average wait for a reply to a part."""
        return self.cloud_wait_ms.setdefault(part, FadingEwma(_WAIT_MS, self.clock))

    def expected_wait_ms(self, part: str) -> float:
        """What is expected for a part; the other part's experience, then 50 ms, until it has its own."""
        known = self.wait(part)
        others = (other.value for other in self.cloud_wait_ms.values() if other.seen)
        return known.value if known.seen else next(others, _WAIT_MS)

    def unanswered(self) -> None:
        """A request was sent and not answered in time, so that no wait has proved to be shorter than believed."""
        for each in self.cloud_wait_ms.values():
            each.hold()

    def compute(self, part: str) -> Ewma:
        """Average compute for one frame of a part."""
        return self.compute_ms.setdefault(part, Ewma(5.0))

    def payload(self, point: OperatingPoint) -> Ewma:
        """Average payload at an operating point; the bundle's measurement until there is one."""
        known = self.payload_bytes.get(point.id)
        if known is None:
            prior = point.mean_bytes or float(self.max_payload[point.id])
            known = self.payload_bytes[point.id] = Ewma(prior)
        return known

    def predict(self, point: OperatingPoint, prices: Prices) -> Prediction:
        """Latency and cost of shipping one sample at a point; the head counts when the point ships the cut."""
        local = self.encode_ms.value + (self.head_ms.value if point.part == "tail" else 0.0)
        transfer = self.payload(point).value + _FRAME_OVERHEAD_BYTES + _REPLY_BYTES
        return Prediction(
            latency_ms=local + self.expected_wait_ms(point.part),
            cost=prices.cost(cloud_ms=self.compute(point.part).value, bytes_total=transfer, messages=2),
        )
