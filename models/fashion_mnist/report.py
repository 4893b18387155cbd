"""The final figures, on the 10,000 test images, which nothing else has seen.

    python -m models.fashion_mnist.report [--held-out] [--data DIR] [--bundle DIR]

Runs the bundle's own files: the head as it is deployed, the codec's bytes, tail.pt2 and full.pt2. Temperatures and
threshold are the manifest's, that is from the calibration part.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from edge_node.heads import open_head
from models.fashion_mnist import calibrate, check, data, freeze
from models.fashion_mnist.measure import Outputs
from schemas.bundle import FULL, TAIL
from schemas.bundle_files import Bundle, open_bundle
from schemas.probability import softmax

if TYPE_CHECKING:
    from schemas.bundle import OperatingPoint
    from schemas.tensor import Array


RULES: dict[calibrate.Rule, str] = {"cloud": "the cloud wins", "confident": "the more confident wins"}


class Row(NamedTuple):
    """One way to answer: its accuracy, what travels."""

    name: str
    accuracy: float
    low: float
    high: float
    """95 % interval of the accuracy (Wilson)."""
    shipped: float
    """Share of the samples that travel."""
    tensor_bytes: float
    """Mean bytes of tensor for each sample, those that stay counted as none."""


def outputs(bundle: Bundle, images: data.Bytes) -> tuple[Outputs, list[float]]:
    """Logits of every part of the bundle, the tail's at each point of `tail_points`; the mean payload at each."""
    head = open_head(bundle, "auto")
    inputs = np.stack([bundle.manifest.preprocess.apply(image) for image in images[..., None]])
    cuts, exit_logits = check.run_head(head, inputs)
    tails, sizes = [], []
    for point in tail_points(bundle):
        arrived, size = through_codec(bundle, point, cuts)
        tails.append(run_pt2(bundle, TAIL, arrived))
        sizes.append(size)
    return Outputs(run_pt2(bundle, FULL, inputs), exit_logits, np.stack(tails)), sizes


def tail_points(bundle: Bundle) -> list[OperatingPoint]:
    """The operating points that ship the cut."""
    return [point for point in bundle.manifest.points if point.part == "tail"]


def through_codec(bundle: Bundle, point: OperatingPoint, cuts: Array) -> tuple[Array, float]:
    """What arrives of the cuts (N, channels, 7, 7) at a point, and the mean bytes of a payload."""
    codec = bundle.codec(point)
    payloads = [codec.encode(cut) for cut in cuts]
    return np.stack([codec.decode(payload) for payload in payloads]), float(np.mean([len(one) for one in payloads]))


def run_pt2(bundle: Bundle, name: str, inputs: Array) -> Array:
    """Logits (N, 10) of an exported program whose digest holds."""
    bundle.read(name)
    module = torch.export.load(bundle.path / name).module()
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(inputs), freeze.MAX_BATCH)
        found: Array = torch.cat([module(part) for part in parts]).numpy()
    return found


def rows(found: Outputs, labels: data.Bytes, bundle: Bundle, sizes: list[float]) -> list[Row]:
    """Exit alone, hybrid by both rules and tail always at every point that ships the cut, full."""
    manifest = bundle.manifest
    if manifest.exit is None:
        msg = f"{bundle.path} has no exit, so there is no hybrid to measure; export it with one"
        raise ValueError(msg)
    exit_p = softmax(found.exit, manifest.exit.temperature)

    def row(name: str, accuracy: float, shipped: float, each: float) -> Row:
        return Row(name, accuracy, *calibrate.wilson(accuracy, len(labels)), shipped, shipped * each)

    lines = [row("exit alone", calibrate.accuracy(found.exit, labels), 0.0, 0.0)]
    for point, tail, size in zip(tail_points(bundle), found.tail, sizes, strict=True):
        tail_p = softmax(tail, manifest.tail_temperature)
        for rule, says in RULES.items():
            both = calibrate.hybrid(exit_p, tail_p, labels, manifest.exit.threshold, rule)
            lines.append(row(f"point {point.id}, hybrid, {says}", both.accuracy, both.shipped, size))
        lines.append(row(f"point {point.id}, tail always", calibrate.accuracy(tail, labels), 1.0, size))
    return [*lines, row("full, raw pixels", calibrate.accuracy(found.full, labels), 1.0, 28 * 28)]


def table(lines: list[Row]) -> str:
    """Markdown."""
    head = "| answer | accuracy | 95 % interval | shipped | tensor bytes a sample |\n|---|---|---|---|---|\n"
    body = (
        f"| {r.name} | {100 * r.accuracy:.2f} % | {100 * r.low:.2f} to {100 * r.high:.2f} % "
        f"| {100 * r.shipped:.1f} % | {r.tensor_bytes:.1f} |"
        for r in lines
    )
    return head + "\n".join(body)


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m models.fashion_mnist.report", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder with the four IDX files")
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parent / "bundle")
    parser.add_argument("--held-out", action="store_true", help="calibration and validation instead of the test images")
    args = parser.parse_args(argv)
    part = data.read_held_out(args.data) if args.held_out else data.read_test(args.data)
    bundle = open_bundle(args.bundle)
    found, sizes = outputs(bundle, part.images)
    print(table(rows(found, part.labels, bundle, sizes)))


if __name__ == "__main__":
    main()
