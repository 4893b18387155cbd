"""From what happened to a request to the one Outcome that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_node.bar import Bar
from edge_node.outlook import Outlook
from edge_node.router import Decision, Request
from edge_node.uplink import Shipment
from schemas.bundle import Manifest
from schemas.messages import Outcome, StageTimes

Source = Literal["edge", "cloud", "none"]


@dataclass(frozen=True, slots=True)
class LocalAnswer:
    """What the early exit says."""

    label: int
    confidence: float
    bar: Bar
    """By what it is sure."""

    @property
    def sure(self) -> bool:
        """Whether the confidence reaches the threshold."""
        return self.confidence >= self.bar.threshold


@dataclass(slots=True)
class Life:
    """Facts of one request, as they come to be; `started` is of `time.perf_counter`, `deadline` of the loop's clock."""

    id: str
    request: Request
    started: float
    deadline: float
    outlook: Outlook
    """The policy that it began with, by which all of it is decided."""
    decision: Decision
    local: LocalAnswer | None = None
    shipment: Shipment | None = None
    escalated: bool = False
    preprocess_ms: float = 0.0
    head_ms: float = 0.0


def outcome_of(life: Life, node: str, manifest: Manifest, now: float) -> Outcome:
    """The outcome of a request that is over, with the answer that counts of those that there are."""
    shipment = life.shipment or Shipment("none")
    source, label, confidence = _best(life.local, shipment)
    return Outcome(
        node=node,
        request=life.id,
        model=manifest.name,
        label=label,
        label_name=manifest.labels[label] if label is not None and label < len(manifest.labels) else "",
        confidence=confidence,
        source=source,
        route=life.decision.route,
        reason=_reason(life, shipment),
        scores=life.decision.scores,
        privacy=life.request.privacy,
        escalated=life.escalated,
        cloud_status=shipment.status,
        edge_version=manifest.edge_version,
        cloud_version=manifest.cloud_version,
        interface=manifest.interface,
        attempts=shipment.attempts,
        payload_bytes=shipment.payload_bytes,
        bytes_up=shipment.bytes_up,
        bytes_down=shipment.bytes_down,
        batch=shipment.batch,
        cost=life.outlook.policy.prices.cost(
            cloud_ms=shipment.compute_ms,
            bytes_total=shipment.bytes_up + shipment.bytes_down,
            messages=shipment.attempts + (shipment.bytes_down > 0),
        ),
        deadline_ms=life.request.deadline_ms,
        times_ms=_times(life, shipment, now),
        point=shipment.point,
    )


def _best(local: LocalAnswer | None, shipment: Shipment) -> tuple[Source, int | None, float]:
    """Source, label and confidence of the answer that counts; `none` when there is none.

    The cloud's supersedes an exit that is unsure, whose confidence means little below its threshold; against a
    sure one, which only a policy of its own threshold ships, the more confident of the two wins.
    """
    cloud = shipment.answer
    if cloud is not None and (local is None or not local.sure or cloud.confidence >= local.confidence):
        return "cloud", cloud.label, cloud.confidence
    if local is not None:
        return "edge", local.label, local.confidence
    return "none", None, 0.0


def _reason(life: Life, shipment: Shipment) -> str:
    """Why it went as it went: the router's reason, then what the exit and the cloud changed."""
    parts, local = [life.decision.reason], life.local
    if local is not None:
        parts.append(f"exit {'sure' if local.sure else 'unsure'} at {local.confidence:.3f} ({local.bar})")
    if local is not None and local.sure and life.escalated:
        parts.append(f"checked below {life.outlook.policy.confidence_threshold:g} by the policy")
    if shipment.status not in {"none", "ok"}:
        parts.append(
            f"cloud: {shipment.status} ({shipment.detail})" if shipment.detail else f"cloud: {shipment.status}"
        )
    return "; ".join(parts)


def _times(life: Life, shipment: Shipment, now: float) -> StageTimes:
    return StageTimes(
        preprocess=life.preprocess_ms,
        head=life.head_ms,
        encode=shipment.encode_ms,
        cloud_wait=shipment.wait_ms,
        cloud_queue=shipment.queue_ms,
        cloud_compute=shipment.compute_ms,
        total=(now - life.started) * 1e3,
    )
