"""What pairs of several training seeds come to at their operating points, against lossy WebP. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.rate_curves import Curve, Floats, least_bytes
from benchmarks.rate_points import Reference, log_softmax
from benchmarks.report import Target
from schemas.tensor import Array

MOST_BYTES = 64
LEAST_RATIO = 4.0
MOST_BEHIND = 0.3
"""Points of accuracy behind the unsplit model."""


class Shipped(NamedTuple):
    """What a pair does with N samples at one operating point that ships every one of them."""

    sizes: Floats
    """Payloads (N,), bytes."""
    logits: Array
    """The tail's answers (N, classes)."""


def seed_rows(
    reference: Reference, seeds: Mapping[str, Sequence[Shipped]], webp: Sequence[Curve]
) -> list[dict[str, Any]]:
    """For each seed and point: bytes, accuracy, and the bytes of lossy WebP into the unsplit model at that accuracy.

    `reference` has labels; `webp` are curves of bytes against wrong answers, one for each size of the image. A tail
    that is better than the unsplit model is compared at the unsplit model's accuracy, the most that WebP can have.
    """
    assert reference.labels is not None
    cloud = float((reference.logs.argmax(axis=1) == reference.labels).mean())
    rows = []
    for seed, points in seeds.items():
        for index, point in enumerate(points):
            found = reference.judge("tail", {}, point.sizes, log_softmax(point.logits))
            assert found.right is not None
            accuracy, size = float(found.right.mean()), float(point.sizes.mean())
            theirs = least_bytes(webp, 1 - min(accuracy, cloud))
            columns = {"bytes": size, "accuracy": accuracy, "behind_cloud_points": 100 * (cloud - accuracy)}
            rows.append({"seed": seed, "point": index, **columns, "webp_bytes": theirs, "webp_ratio": theirs / size})
    return rows


def seed_targets(rows: Sequence[dict[str, Any]]) -> list[Target]:
    """Means over the seeds, each at its richest point of 64 bytes or fewer; NaN, and so missed, when one has none."""
    seeds = sorted({row["seed"] for row in rows})
    chosen = [_richest(row for row in rows if row["seed"] == seed) for seed in seeds]
    behind, times = (
        float(np.mean([row.get(name, np.nan) for row in chosen])) for name in ("behind_cloud_points", "webp_ratio")
    )
    of = f"mean of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    return [
        Target(f"tail at <= {MOST_BYTES} bytes behind cloud-only, points of accuracy, {of}", behind, "<=", MOST_BEHIND),
        Target(f"lossy WebP over tail, bytes at equal accuracy, {of}", times, ">=", LEAST_RATIO),
    ]


def _richest(rows: Any) -> dict[str, Any]:
    """The row of most bytes within the cap; an empty one when there is none."""
    return max((row for row in rows if row["bytes"] <= MOST_BYTES), key=lambda row: row["bytes"], default={})
