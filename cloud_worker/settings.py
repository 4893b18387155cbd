"""How a worker behaves: what an operator may set."""

from __future__ import annotations

from dataclasses import dataclass

from broker.bus import QoS
from schemas.wire import MAX_FRAME_BYTES


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Times in seconds, `max_batch` and `max_queue` in samples."""

    max_batch: int = 16
    max_delay_s: float = 0.0
    max_queue: int = 256
    work_qos: QoS = 0
    max_frame_bytes: int = MAX_FRAME_BYTES
    stats_every_s: float = 5.0
    stuck_after_s: float = 30.0
    grace_s: float = 20.0
    """Longest time from the request to stop until the last reply."""
    replies_kept: int = 4096
    replies_kept_s: float = 60.0
