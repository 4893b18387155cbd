"""What an operator sets: how to route, how private a sample is, what things cost."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from schemas.record import Record

Weight = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Price = Annotated[float, Field(ge=0)]


class PrivacyLevel(StrEnum):
    """How far a sample may go. RESTRICTED never leaves the device, in no form, whatever else holds."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    RESTRICTED = "restricted"


class Route(StrEnum):
    """Who answers a request."""

    EDGE_ONLY = "edge_only"
    CLOUD_ONLY = "cloud_only"
    HYBRID_SPLIT = "hybrid_split"
    FALLBACK_EDGE = "fallback_edge"


class Priority(StrEnum):
    """Who finds a place when many frames are in flight; the deadline, not this, orders them at a worker."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class Prices(Record):
    """Prices in US dollars. The defaults are stated assumptions, not quotes.

    A worker's millisecond at 1 dollar an hour, an IoT SIM's megabyte (10**6 bytes, either direction) at
    10 cents, a broker's message at 1 dollar a million.
    """

    per_cloud_ms: Price = 1.0 / 3_600_000
    per_megabyte: Price = 0.10
    per_message: Price = 1e-6

    def cost(self, *, cloud_ms: float, bytes_total: float, messages: float) -> float:
        """Dollars for one inference."""
        return cloud_ms * self.per_cloud_ms + bytes_total / 1e6 * self.per_megabyte + messages * self.per_message


class TaskRoutingPolicy(Record):
    """Weights and thresholds of the router. Weights are normalised to a sum of 1."""

    privacy_weight: Weight = 0.3
    latency_weight: Weight = 0.3
    cost_weight: Weight = 0.2
    complexity_weight: Weight = 0.2
    latency_threshold_ms: Positive = 50.0
    confidence_threshold: Share = 0.85
    """Below it an answer of the edge alone is checked with the cloud, unless a certificate states a threshold.

    Where the bundle's exit has no threshold at all, an answer is sure from here on.
    """
    edge_model_max_mb: Positive = 100.0
    edge_preference: Share = 0.7
    """Above this weighted score a request stays on the edge."""
    cloud_preference: Share = 0.3
    """Below this weighted score a request goes to the cloud whole."""
    cost_budget: Positive = 0.001
    """Dollars for one inference at which the cost score reaches 1."""
    pinned: Route | None = None
    """Take this route instead of scoring; the hard rules (privacy, no cloud, no exit) still hold."""
    max_ssim: Share | None = None
    """Nothing is shipped at an operating point that is known to show more of the sample, or not known to show less.

    Held against the point's measured SSIM, which is a lower bound on what it leaks. None for no limit.
    """
    probe_every_s: Positive = 2.0
    """While link or breaker keep requests on the edge, one of them is also sent this often, to see whether they may
    ship again. Its answer comes from the edge meanwhile, at once."""
    prices: Prices = Prices()

    @model_validator(mode="after")
    def _weights_usable(self) -> TaskRoutingPolicy:
        if self.cloud_preference > self.edge_preference:
            msg = f"cloud_preference {self.cloud_preference} is above edge_preference {self.edge_preference}"
            raise ValueError(msg)
        if sum(self.raw_weights) <= 0:
            msg = "all four weights are 0; set at least one"
            raise ValueError(msg)
        return self

    def over_max_ssim(self, ssim: float | None) -> str:
        """Why payloads of an SSIM (None: it was not measured) may not leave the device, in words; empty if they may."""
        if self.max_ssim is None:
            return ""
        if ssim is None:
            return f"its SSIM was not measured, max_ssim is {self.max_ssim:g}"
        return f"its SSIM is {ssim:.4g}, max_ssim is {self.max_ssim:g}" if ssim > self.max_ssim else ""

    @property
    def raw_weights(self) -> tuple[float, float, float, float]:
        """Weights as given: privacy, latency, cost, complexity."""
        return (self.privacy_weight, self.latency_weight, self.cost_weight, self.complexity_weight)

    @property
    def weights(self) -> tuple[float, float, float, float]:
        """Weights with a sum of 1: privacy, latency, cost, complexity."""
        total = sum(self.raw_weights)
        privacy, latency, cost, complexity = (weight / total for weight in self.raw_weights)
        return (privacy, latency, cost, complexity)
