"""Live estimates that the router reads: how long things take and what they cost, by what was just seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.bundle import Manifest, OperatingPoint
from schemas.policy import Prices

_REPLY_BYTES = 45.0
_FRAME_OVERHEAD_BYTES = 70.0
_WAIT_MS = 50.0


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


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a route is expected to take for one sample."""

    latency_ms: float
    cost: float
    """US dollars."""


@dataclass(slots=True)
class Estimates:
    """Averages of this node's own experience, in milliseconds and bytes. Priors hold until something is seen."""

    head_ms: Ewma = field(default_factory=lambda: Ewma(5.0))
    """Preprocessing and head."""
    encode_ms: Ewma = field(default_factory=lambda: Ewma(0.5))
    cloud_wait_ms: dict[str, Ewma] = field(default_factory=dict)
    """From publishing to the reply, by part (`tail`, `full`)."""
    compute_ms: dict[str, Ewma] = field(default_factory=dict)
    """A worker's compute for one frame, by part."""
    payload_bytes: dict[int, Ewma] = field(default_factory=dict)
    """By operating point."""

    def wait(self, part: str) -> Ewma:
        """Average wait for a reply; the other part's experience, then 50 ms, until there is one."""
        known = self.cloud_wait_ms.setdefault(part, Ewma(_WAIT_MS))
        if known.seen == 0:
            known.value = next((other.value for other in self.cloud_wait_ms.values() if other.seen), _WAIT_MS)
        return known

    def compute(self, part: str) -> Ewma:
        """Average compute for one frame of a part."""
        return self.compute_ms.setdefault(part, Ewma(5.0))

    def payload(self, point: OperatingPoint, manifest: Manifest) -> Ewma:
        """Average payload at an operating point; the bundle's measurement until there is one."""
        known = self.payload_bytes.get(point.id)
        if known is None:
            prior = point.mean_bytes or float(manifest.codec(point).max_payload)
            known = self.payload_bytes[point.id] = Ewma(prior)
        return known

    def predict(self, point: OperatingPoint, manifest: Manifest, prices: Prices) -> Prediction:
        """Latency and cost of shipping one sample at a point; the head counts when the point ships the cut."""
        local = self.encode_ms.value + (self.head_ms.value if point.part == "tail" else 0.0)
        transfer = self.payload(point, manifest).value + _FRAME_OVERHEAD_BYTES + _REPLY_BYTES
        return Prediction(
            latency_ms=local + self.wait(point.part).value,
            cost=prices.cost(cloud_ms=self.compute(point.part).value, bytes_total=transfer, messages=2),
        )
