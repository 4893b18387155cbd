"""The options of `edge-node run`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from broker.options import Option, flag, host_id, log_level, number, one_of, whole
from schemas.policy import Priority, PrivacyLevel, Route
from schemas.topics import check_id

ROUTES: Final = {"auto": None, "edge": Route.EDGE_ONLY, "cloud": Route.CLOUD_ONLY, "hybrid": Route.HYBRID_SPLIT}


def _shard(text: str) -> tuple[int, int]:
    index, _, total = text.partition("/")
    if not (index.isdecimal() and total.isdecimal() and 1 <= int(index) <= int(total)):
        msg = f"{text!r} is not a shard; write I/N with I from 1 to N, for example 2/4"
        raise ValueError(msg)
    return int(index) - 1, int(total)


OPTIONS: Final[dict[str, Option]] = {
    "bundle": Option(Path, None, "bundle, a folder or a zip file"),
    "source": Option(Path, None, "folder of images, one image, .npy array or IDX file"),
    "broker": Option(str, None, "mqtt://host:1883; left out, every answer comes from the edge"),
    "id": Option(lambda text: check_id(text, "node id"), host_id(), "this node's name in topics"),
    "root": Option(lambda text: check_id(text, "topic root"), "sb", "first level of every topic"),
    "connect-timeout": Option(number(0.1, 3600), "10", "seconds to wait for the broker at the start"),
    "offline-ok": flag("do not wait for the broker; answer from the edge until it is there"),
    "route": Option(one_of(*ROUTES), "auto", "take one route instead of scoring: auto, edge, cloud, hybrid"),
    "privacy": Option(PrivacyLevel, "public", ", ".join(PrivacyLevel)),
    "deadline-ms": Option(number(1, 3_600_000), "1000", "when each answer is due"),
    "priority": Option(Priority, "normal", f"{', '.join(Priority)}: who finds a place when many frames are in flight"),
    "max-cost": Option(number(0, 1e6), None, "most US dollars that one inference may cost"),
    "max-ssim": Option(
        number(0, 1), None, "ship only what is known to show at most this likeness (SSIM) of the sample, 0 to 1"
    ),
    "runtime": Option(
        one_of("auto", "tflite", "int8", "numpy"), "auto", "what runs the head: auto, tflite, int8, numpy"
    ),
    "work-qos": Option(whole(0, 1), "0", "QoS of frames and replies"),
    "concurrency": Option(whole(1, 1024), "1", "samples in flight at once"),
    "rate": Option(number(1e-3, 1e6), None, "most samples a second"),
    "count": Option(whole(1, 1 << 40), None, "stop after so many samples"),
    "shard": Option(_shard, "1/1", "I/N: only every N-th sample, from the I-th"),
    "repeat": flag("begin again at the end of the source, until stopped"),
    "json": flag("print one JSON object an outcome"),
    "publish-outcomes": flag("also publish outcomes, for dashboards and databases"),
    "log-level": log_level("warning"),
}
