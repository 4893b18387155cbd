"""Profiles of models that do not exist, of any size, for what plans with them."""

from __future__ import annotations

import random
from typing import Any

from cloud_worker.build.measure.profile_file import SplitProfile

_FULL_MACS = 400_000_000


def random_profile(seed: int, cuts: int, points: int) -> SplitProfile:
    """A net whose tensors shrink with depth, every figure drawn at random about that; `points` codings a cut."""
    draw = random.Random(seed)
    edge_ms, cloud_ms = draw.uniform(20, 300), draw.uniform(2, 30)
    return SplitProfile.model_validate(
        {
            "model": f"random-{seed}",
            "full_macs": _FULL_MACS,
            "edge": {"runtime": "none", "device": "none"},
            "cloud": {"runtime": "none", "device": "none"},
            "cloud_only": {
                "cloud_ms": _spread(draw, cloud_ms),
                "points": [_point(draw, "input", 20_000, level, points) for level in range(points)],
            },
            "edge_only": {"edge_ms": _spread(draw, edge_ms), "quality": {"kl_nats": 0.0, "accuracy": 0.9}},
            "cuts": [_cut(draw, (index, cuts), points, edge_ms, cloud_ms) for index in range(1, cuts + 1)],
        }
    )


def _cut(draw: random.Random, place: tuple[int, int], points: int, edge_ms: float, cloud_ms: float) -> dict[str, Any]:
    index, cuts = place
    head_macs = _FULL_MACS * index // (cuts + 1)
    share = head_macs / _FULL_MACS
    size = 60_000 * (1 - share) ** 2 + 100
    return {
        "index": index,
        "name": f"block.{index}",
        "head_macs": head_macs,
        "macs_share": share,
        "edge_ms": _spread(draw, edge_ms * share),
        "cloud_ms": _spread(draw, cloud_ms * (1 - share)),
        "points": [_point(draw, "transform", size, level, points) for level in range(points)],
    }


def _spread(draw: random.Random, about: float) -> dict[str, float]:
    p50 = about * draw.uniform(0.8, 1.2)
    return {"p50": p50, "p95": p50 * draw.uniform(1, 2)}


def _point(draw: random.Random, codec: str, most_bytes: float, level: int, levels: int) -> dict[str, Any]:
    """The higher the level, the fewer bytes and the worse the answers, about."""
    mean = most_bytes * draw.uniform(0.5, 1.5) / (level + 1)
    return {
        "codec": codec,
        "config": {"level": level},
        "bytes_mean": mean,
        "bytes_p95": mean * draw.uniform(1, 1.5),
        "encode_ms": draw.uniform(0, 5),
        "decode_ms": draw.uniform(0, 5),
        "quality": {
            "kl_nats": draw.uniform(0, 0.4) * (level + 1) / levels,
            "accuracy": 0.9 - draw.uniform(0, 0.1) * level / levels,
        },
        "leakage": {"ssim": draw.uniform(0, 1), "samples": 200} if draw.random() < 0.7 else None,
    }
