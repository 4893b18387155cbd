"""The final figures, on the 10,000 test images, which nothing else has seen.

    python -m models.fashion_mnist.report [--held-out] [--data DIR] [--bundle DIR]

Runs the bundle's own files: the head as it is deployed, the codec's bytes, tail.pt2 and full.pt2. Temperatures and
threshold are the manifest's, that is from the calibration part.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.fashion_mnist import data, hybrid
from models.fashion_mnist.outputs import Outputs, outputs
from schemas.bundle_files import Bundle, open_bundle
from schemas.probability import softmax


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


def rows(found: Outputs, labels: data.Bytes, bundle: Bundle, size: float) -> list[Row]:
    """Exit alone, hybrid by both rules, tail always, full."""
    manifest = bundle.manifest
    if manifest.exit is None or manifest.exit.threshold is None:
        msg = f"{bundle.path} has no exit with a threshold, so there is no hybrid to measure; build it with --fit"
        raise ValueError(msg)
    threshold = manifest.exit.threshold
    exit_p = softmax(found.exit, manifest.exit.temperature)
    tail_p = softmax(found.tail, manifest.tail_temperature)
    cloud = hybrid.hybrid(exit_p, tail_p, labels, threshold, "cloud")
    confident = hybrid.hybrid(exit_p, tail_p, labels, threshold, "confident")

    def row(name: str, accuracy: float, shipped: float, each: float) -> Row:
        return Row(name, accuracy, *hybrid.wilson(accuracy, len(labels)), shipped, shipped * each)

    return [
        row("exit alone", hybrid.accuracy(found.exit, labels), 0.0, 0.0),
        row(f"hybrid at {threshold}, the cloud wins", cloud.accuracy, cloud.shipped, size),
        row(f"hybrid at {threshold}, the more confident wins", confident.accuracy, confident.shipped, size),
        row("tail always", hybrid.accuracy(found.tail, labels), 1.0, size),
        row("full, raw pixels", hybrid.accuracy(found.full, labels), 1.0, 28 * 28),
    ]


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
    part, bundle = _held_out(args.data) if args.held_out else data.read_test(args.data), open_bundle(args.bundle)
    found, size = outputs(bundle, part.images)
    print(table(rows(found, part.labels, bundle, size)))


def _held_out(folder: Path) -> data.Labelled:
    """Calibration and validation in one, for choices that both may speak to."""
    split = data.read_split(folder)
    return data.Labelled(*map(np.concatenate, zip(split.calibration, split.validation, strict=True)))


if __name__ == "__main__":
    main()
