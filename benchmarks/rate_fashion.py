"""Fashion-MNIST: every answer that the bundle can give, beside image files of the input into the unsplit model."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.children import TEST_IMAGES
from benchmarks.rate_curves import Floats
from benchmarks.rate_points import Measured, Reference, error_curve, log_softmax, through
from benchmarks.rate_seeds import Shipped, seed_rows, seed_targets
from benchmarks.rate_times import MOST_TIME, codec_ms, median_ms, one_thread
from benchmarks.report import Report, Target
from benchmarks.rivals import LOSSY, Rival
from cloud_worker.build.export.freeze import MAX_BATCH
from edge_node.heads import open_head
from edge_node.idx import labels_beside, read_idx
from models.fashion_mnist import data, outputs
from schemas.bundle import FULL, TAIL, OperatingPoint
from schemas.bundle_files import Bundle, open_bundle
from schemas.errors import ConfigError
from schemas.probability import softmax
from schemas.tensor import Array

NAME = "fashion_mnist"
SIDES = {"jpeg": (28, 20), "webp": (28, 24, 20, 16), "avif": (28, 20), "png": (28, 20)}
"""More where a smaller file is in sight: the headers of JPEG and AVIF alone take hundreds of bytes."""
QUALITIES = {
    "jpeg": (10, 50, 85),
    "webp": (1, 15, 35, 50, 65, 75, 85, 95),  # and, at full size, WEBP_BETWEEN
    "avif": (20, 45, 65, 85),
}
WEBP_BETWEEN = (60, 70, 73, 77, 79, 81, 83, 87, 89, 91, 93)
"""About the accuracies that are compared, so that WebP's curve is not cut short by straight lines."""
WEBP_CONTAINER = 20
"""RIFF header 12 and chunk header 8: bytes of a lossy WebP file that say nothing, and are not counted."""
OURS = {"transform", "bottleneck"}
_QUICK, _QUICK_SIDES, _QUICK_QUALITIES = 60, (28, 16), (30, 80)
_TIMED = 16

Say = Callable[[str], None]


def read_part(folder: Path | None, *, quick: bool) -> data.Labelled:
    """All 10,000 test images of a folder, or the 1,000 that are committed; 60 of them when `quick`.

    Raises ConfigError when the folder does not hold them.
    """
    try:
        part = data.read_test(folder) if folder else _committed()
    except data.DataError as error:
        raise ConfigError(str(error)) from None
    return data.Labelled(part.images[:_QUICK], part.labels[:_QUICK]) if quick else part


def _committed() -> data.Labelled:
    images = read_idx(TEST_IMAGES)
    return data.Labelled(images, np.array(labels_beside(TEST_IMAGES, len(images)), np.uint8))


class Pair:
    """A bundle, its head's outputs for a part of the data, and the unsplit model's answers as the measure."""

    def __init__(self, bundle: Bundle, part: data.Labelled, pool: Executor) -> None:
        self.bundle, self.manifest, self.part, self._pool = bundle, bundle.manifest, part, pool
        self.inputs = np.stack([self.manifest.preprocess.apply(image) for image in part.images[..., None]])
        if self.manifest.exit is None or self.manifest.exit.threshold is None:
            msg = f"{bundle.path} has no exit with a threshold, so no hybrid to measure; give a --bundle with one"
            raise ConfigError(msg)
        self._exit = self.manifest.exit
        self._programs = {name: torch.export.load(io.BytesIO(bundle.read(name))).module() for name in (TAIL, FULL)}
        self.cuts, self.exit_logits = outputs.run_head(open_head(bundle, "auto"), self.inputs)

    @cached_property
    def reference(self) -> Reference:
        """What the unsplit model answers."""
        return Reference(self.full_logs(self.inputs), self.part.labels)

    def run(self, name: str, inputs: Array) -> Array:
        """Logits (N, 10) of one of the bundle's programs."""

        @torch.inference_mode()
        def one(start: int) -> Array:
            found: Array = self._programs[name](torch.from_numpy(inputs[start : start + MAX_BATCH])).numpy()
            return found

        return np.concatenate(list(self._pool.map(one, range(0, len(inputs), MAX_BATCH))))

    def full_logs(self, inputs: Array) -> Floats:
        """The unsplit model's log-probabilities (N, 10) for preprocessed inputs."""
        return log_softmax(self.run(FULL, inputs), self.manifest.full_temperature)

    @property
    def tail_points(self) -> list[OperatingPoint]:
        """The operating points that ship the cut."""
        return [point for point in self.manifest.points if point.part == "tail"]

    def shipped(self) -> dict[int, Shipped]:
        """Every operating point that ships the cut."""
        found = {}
        for point in self.tail_points:
            arrived = through(self.bundle.codec(point), self.cuts)
            found[point.id] = Shipped(arrived.sizes, self.run(TAIL, arrived.arrays))
        return found

    def answers(self, shipped: Mapping[int, Shipped]) -> list[tuple[str, Measured]]:
        """What each answer costs and is worth: the exit alone, hybrid and the tail at each point, raw input."""
        exit_logs = log_softmax(self.exit_logits, self._exit.temperature)
        nothing = np.zeros(len(exit_logs))
        found = [("exit", self.reference.judge("none", {}, nothing, exit_logs))]
        stays = softmax(self.exit_logits, self._exit.temperature).max(axis=1) >= self._exit.threshold
        for point in self.tail_points:
            sizes, logits = shipped[point.id]
            logs = log_softmax(logits, self.manifest.tail_temperature)
            setting = {"setting": f"point {point.id}", **codec_ms(self.bundle.codec(point), self.cuts[:_TIMED])}
            found.append(("tail", self.reference.judge(point.codec, setting, sizes, logs)))
            mixed = np.where(stays[:, None], exit_logs, logs)
            found.append(("hybrid", self.reference.judge(point.codec, setting, np.where(stays, 0, sizes), mixed)))
        return found

    def rival(self, rival: Rival) -> Measured:
        """The unsplit model's answer to what comes out of an image file."""
        arrived = through(rival.codec(self.manifest.sample), self.part.images[..., None], self._pool)
        inputs = np.stack([self.manifest.preprocess.apply(image) for image in arrived.arrays])
        left_out = WEBP_CONTAINER if rival.format == "webp" else 0
        setting = {**rival.setting(), "container_bytes_left_out": left_out}
        return self.reference.judge("input", setting, arrived.sizes - left_out, self.full_logs(inputs))

    def times(self) -> dict[str, Any]:
        """Head and tail, medians for one sample; within `one_thread`."""
        head = open_head(self.bundle, "auto")
        tail, cut = self._programs[TAIL], torch.from_numpy(self.cuts[:1])
        with torch.inference_mode():
            head_ms, tail_ms = median_ms(lambda: head.run(self.inputs[0])), median_ms(lambda: tail(cut))
        share = head_ms / (head_ms + tail_ms)
        return {"runtime": head.runtime, "head_ms": head_ms, "tail_ms": tail_ms, "time_share": share}


def measure_rivals(pair: Pair, say: Say, *, quick: bool) -> dict[str, dict[int, list[Measured]]]:
    """By format and size, over the quality scale; the last point of WebP, and PNG, are lossless."""
    found: dict[str, dict[int, list[Measured]]] = {}
    for format_ in (*LOSSY, "png"):
        qualities = () if format_ == "png" else _QUICK_QUALITIES if quick else QUALITIES[format_]
        lossless = (None,) if format_ in {"webp", "png"} else ()
        found[format_] = {}
        for side in _QUICK_SIDES if quick else SIDES[format_]:
            say(f"{format_} at {side}x{side}")
            between = WEBP_BETWEEN if format_ == "webp" and side == max(SIDES["webp"]) and not quick else ()
            each = [Rival(format_, side, quality) for quality in (*sorted({*qualities, *between}), *lossless)]
            found[format_][side] = [pair.rival(rival) for rival in each]
    return found


def answer_rows(pair: Pair, shipped: Mapping[int, Shipped]) -> list[dict[str, Any]]:
    """The pair's own answers."""
    profile = pair.manifest.profile
    ours = {"model": NAME, "macs_share": profile.head_macs / profile.full_macs, **pair.times()}
    return [{**ours, "answer": answer, **point.row()} for answer, point in pair.answers(shipped)]


def file_rows(rivals: Mapping[str, Mapping[int, list[Measured]]]) -> list[dict[str, Any]]:
    """The unsplit model's answers to image files."""
    theirs = {"model": NAME, "macs_share": 0.0, "time_share": 0.0, "answer": "full"}
    points = (point for family in rivals.values() for found in family.values() for point in found)
    return [{**theirs, **point.row()} for point in points]


def time_targets(rows: Sequence[Mapping[str, Any]]) -> list[Target]:
    """The codec's share of its half at the slowest operating point; the baselines are in the rows alone."""
    ours = [row for row in rows if row["answer"] == "tail" and row["codec"] in OURS]
    shares = {
        "encode over head time": max((row["encode_ms"] / row["head_ms"] for row in ours), default=math.nan),
        "decode over tail time": max((row["decode_ms"] / row["tail_ms"] for row in ours), default=math.nan),
    }
    runtime = rows[0]["runtime"]
    return [
        Target(f"{what}, {NAME} in {runtime} and torch, slowest point", share, "<=", MOST_TIME)
        for what, share in shares.items()
    ]


def of_other_seeds(pair: Pair, others: Sequence[Path], pool: Executor) -> dict[str, list[Shipped]]:
    """By the bundles' folders: what pairs trained with other seeds, from the same unsplit model, make of the same data.

    Raises BundleError for a bundle that cannot be used, ConfigError for one with another unsplit model.
    """
    found = {}
    for path in others:
        other = Pair(open_bundle(path), pair.part, pool)
        if other.manifest.files[FULL] != pair.manifest.files[FULL]:
            msg = f"{path} has another unsplit model than {pair.bundle.path}; seeds are compared behind the same one"
            raise ConfigError(msg)
        found[str(path)] = list(other.shipped().values())
    return found


def add_to(
    report: Report, path: Path, folder: Path | None, say: Say, *, quick: bool, others: Sequence[Path] = ()
) -> None:
    """Measure the bundle at `path` and put rows, targets and notes into the report; no targets when `quick`.

    `others` are bundles of pairs that were trained with other seeds.

    Raises BundleError for a bundle that cannot be used, ConfigError when the data is not there.
    """
    part = read_part(folder, quick=quick)
    say(f"{NAME}: {len(part.images)} images")
    with one_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
        pair = Pair(open_bundle(path), part, pool)
        shipped = pair.shipped()
        seeds = of_other_seeds(pair, others, pool)
        rivals = measure_rivals(pair, say, quick=quick)
        answers = answer_rows(pair, shipped)
        report.rows += [*answers, *file_rows(rivals)]
        report.targets += [] if quick else time_targets(answers)
    lossy = [[each for each in points if each.setting["quality"]] for points in rivals["webp"].values()]
    webp = [error_curve(points) for points in lossy]
    groups = [{"bundle": list(shipped.values())}, *([seeds] if seeds else [])]
    for group in groups:
        rows = seed_rows(pair.reference, group, webp)
        report.rows += [{"model": NAME, **row} for row in rows]
        report.targets += [] if quick else seed_targets(rows)
    report.notes += [
        f"{NAME}: {len(part.images)} test images; KL between calibrated probabilities",
        f"{NAME}: WebP without the {WEBP_CONTAINER} bytes of its container; in hybrid what stays counts as 0 bytes",
        *(["--quick: few images, so there are no targets"] if quick else []),
    ]
