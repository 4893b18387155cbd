"""A profile small enough to plan by hand."""

from __future__ import annotations

from typing import Any

from cloud_worker.build.measure.profile_file import SplitProfile
from cloud_worker.build.plan.network import Link

ROUND = Link(rtt_ms=10, up_mbit_s=1, down_mbit_s=8)
"""125 bytes a millisecond up, 1000 down."""
LEAKS = {"ssim": 0.3, "samples": 200}


def point(codec: str, mean: float, p95: float, coding_ms: tuple[float, float], **more: Any) -> dict[str, Any]:
    encode_ms, decode_ms = coding_ms
    return {
        "codec": codec,
        "bytes_mean": mean,
        "bytes_p95": p95,
        "encode_ms": encode_ms,
        "decode_ms": decode_ms,
        **more,
    }


def tiny() -> dict[str, Any]:
    """One cut after 30 % of the work; 1000 bytes a frame for the input, 125 and 250 for the cut."""
    return {
        "model": "tiny",
        "full_macs": 100,
        "edge": {"runtime": "numpy 2", "device": "a board"},
        "cloud": {"runtime": "torch 2", "device": "a server"},
        "cloud_only": {
            "cloud_ms": {"p50": 20, "p95": 30},
            "points": [point("input", 929, 1179, (1, 2), config={"quality": 80}, quality={"kl_nats": 0.01})],
        },
        "edge_only": {"edge_ms": {"p50": 60, "p95": 70}, "quality": {"kl_nats": 0.0, "accuracy": 0.9}},
        "cuts": [
            {
                "index": 1,
                "name": "block.1",
                "head_macs": 30,
                "macs_share": 0.3,
                "edge_ms": {"p50": 6, "p95": 9},
                "cloud_ms": {"p50": 10, "p95": 12},
                "points": [
                    point("transform", 54, 179, (0.5, 0.5), quality={"kl_nats": 0.05}, leakage=LEAKS),
                    point("affine", 179, 179, (0.5, 0.5), quality={"kl_nats": 0.02}),
                ],
            }
        ],
    }


def tiny_profile() -> SplitProfile:
    return SplitProfile.model_validate(tiny())
