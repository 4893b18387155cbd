"""Live estimates that the router reads: how long things take and what they cost, by what was just seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_node.averages import MARGIN, Ewma, SteadyEwma
from edge_node.link_estimate import LEAST_MS, LinkEstimate
from schemas.bundle import OperatingPoint
from schemas.policy import Prices

_REPLY_BYTES = 45.0
_FRAME_OVERHEAD_BYTES = 70.0
_ENCODE_MS, _COMPUTE_MS = 0.5, 5.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a route is expected to take for one sample at its operating point."""

    latency_ms: float
    cost: float
    """US dollars."""
    bytes_up: float = 0.0
    """MQTT packet bytes, those of expected repetitions included."""
    bytes_down: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What one answered request took; sizes in bytes, times in milliseconds."""

    payload_bytes: int
    bytes_up: int
    """Of all attempts."""
    bytes_down: int
    attempts: int
    encode_ms: float
    wait_ms: float
    """From publishing the frame to its reply."""
    queue_ms: float
    compute_ms: float


@dataclass(slots=True)
class Estimates:
    """Averages of this node's own experience, in milliseconds and bytes. Priors hold until something is seen.

    Round trip and rate of the link, the worker's queue and compute are steady averages: they follow for the worse
    at once, and for the better when three observations in a row are better by 15 %, so that no noise below that
    takes the router back and forth.
    """

    max_payload: Mapping[int, int] = field(default_factory=dict)
    """By operating point: what is expected of one that the bundle has no mean of."""

    link: LinkEstimate = field(default_factory=LinkEstimate)
    head_ms: Ewma = field(default_factory=lambda: Ewma(5.0))
    """Preprocessing and head."""
    queue_ms: SteadyEwma = field(default_factory=lambda: SteadyEwma(0.0, least=LEAST_MS))
    """A frame's wait at the worker, until its batch begins."""
    loss: SteadyEwma = field(default_factory=lambda: SteadyEwma(0.0, least=0.02))
    """Share of the frames that no reply answered, repetitions among them."""
    encode_ms: dict[int, Ewma] = field(default_factory=dict)
    """By operating point, as is the payload."""
    payload_bytes: dict[int, Ewma] = field(default_factory=dict)
    compute_ms: dict[str, SteadyEwma] = field(default_factory=dict)
    """A worker's compute for one frame, by part (`tail`, `full`)."""
    frame_overhead: Ewma = field(default_factory=lambda: Ewma(_FRAME_OVERHEAD_BYTES))
    reply_bytes: Ewma = field(default_factory=lambda: Ewma(_REPLY_BYTES))
    recovering: bool = False
    """Whether the last reply came sooner than believed by the margin, which one alone does not change."""

    def answered(self, point: OperatingPoint, seen: Seen) -> None:
        """A request was answered."""
        frame = seen.bytes_up / seen.attempts
        self.recovering = seen.wait_ms < (1 - MARGIN) * self._wait_ms(point)
        self.encode(point).observe(seen.encode_ms)
        self.payload(point).observe(seen.payload_bytes)
        self.frame_overhead.observe(frame - seen.payload_bytes)
        self.reply_bytes.observe(seen.bytes_down)
        self.queue_ms.observe(seen.queue_ms)
        self.compute(point).observe(seen.compute_ms)
        self.loss.observe((seen.attempts - 1) / seen.attempts)
        self.link.observe(frame, max(0.0, seen.wait_ms - seen.queue_ms - seen.compute_ms))

    def unanswered(self, point: OperatingPoint, waited_ms: float) -> None:
        """A request was sent and not answered in that time."""
        self.recovering = False
        self.loss.observe(1.0)
        elsewhere = self.queue_ms.value + self.compute(point).value
        self.link.unanswered(self._frame_bytes(point), max(0.0, waited_ms - elsewhere))

    def encode(self, point: OperatingPoint) -> Ewma:
        """Average time of encoding at an operating point."""
        return self.encode_ms.setdefault(point.id, Ewma(_ENCODE_MS))

    def compute(self, point: OperatingPoint) -> SteadyEwma:
        """Average compute for one frame of the part that finishes a point."""
        return self.compute_ms.setdefault(point.part, SteadyEwma(_COMPUTE_MS, least=LEAST_MS))

    def payload(self, point: OperatingPoint) -> Ewma:
        """Average payload at an operating point; the bundle's measurement until there is one."""
        known = self.payload_bytes.get(point.id)
        if known is None:
            prior = point.mean_bytes or float(self.max_payload[point.id])
            known = self.payload_bytes[point.id] = Ewma(prior)
        return known

    def predict(self, point: OperatingPoint, prices: Prices) -> Prediction:
        """Latency, bytes and cost of shipping one sample at a point; the head counts when the point ships the cut."""
        local = self.encode(point).value + (self.head_ms.value if point.part == "tail" else 0.0)
        compute, frame = self.compute(point).value, self._frame_bytes(point)
        attempts = 1.0 / (1.0 - min(self.loss.value, 0.5))
        up, down = frame * attempts, self.reply_bytes.value
        return Prediction(
            latency_ms=local + self._wait_ms(point),
            cost=prices.cost(cloud_ms=compute, bytes_total=up + down, messages=attempts + 1),
            bytes_up=up,
            bytes_down=down,
        )

    def attempts_within(self, max_cost: float | None, point: OperatingPoint, prices: Prices) -> int:
        """How many frames of a request its `max_cost` pays for, its answer counted; 0 where not even one."""
        once = prices.cost(
            cloud_ms=self.compute(point).value,
            bytes_total=self._frame_bytes(point) + self.reply_bytes.value,
            messages=2,
        )
        again = prices.cost(cloud_ms=0.0, bytes_total=self._frame_bytes(point), messages=1)
        return attempts_for(max_cost, once, again)

    def gauges(self) -> dict[str, float]:
        """What is believed at this moment, for Stats."""
        line = self.link.line
        return {
            "head_ms": self.head_ms.value,
            "link_rtt_ms": line.rtt_ms,
            "uplink_bytes_per_s": min(line.bytes_per_s, 1e9),
            "loss": self.loss.value,
            "worker_queue_ms": self.queue_ms.value,
        }

    def _wait_ms(self, point: OperatingPoint) -> float:
        """From publishing a frame to its reply."""
        return self.link.line.ms(self._frame_bytes(point)) + self.queue_ms.value + self.compute(point).value

    def _frame_bytes(self, point: OperatingPoint) -> float:
        return self.payload(point).value + self.frame_overhead.value


MOST_ATTEMPTS = 64


def attempts_for(max_cost: float | None, once: float, again: float) -> int:
    """How many frames a budget pays for, where the first costs `once` and each further one `again`."""
    if max_cost is None:
        return MOST_ATTEMPTS
    if once > max_cost:
        return 0
    return MOST_ATTEMPTS if again <= 0 else 1 + math.floor(min(MOST_ATTEMPTS - 1, (max_cost - once) / again))
