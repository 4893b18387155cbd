"""The final figures, on the 10,000 test images, which nothing else has seen.

    python -m models.fashion_mnist.report [--data DIR] [--out DIR]

Reads full.pt, split.pt and report.json of a training run, prints a table and writes test.json. Temperatures and
threshold come from report.json, that is from the calibration part.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.fashion_mnist import calibrate, data
from models.fashion_mnist.nets import Bottleneck, Full
from models.fashion_mnist.train import Outputs, Pair, outputs


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


class Run(NamedTuple):
    """A finished training run."""

    full: Full
    pair: Pair
    report: dict[str, Any]


def load(out: Path) -> Run:
    """The networks and the report in `out`. Raises FileNotFoundError when the training did not finish."""
    report = json.loads((out / "report.json").read_text())
    full = Full()
    full.load_state_dict(torch.load(out / "full.pt", weights_only=True))
    shape = report["bottleneck"]
    pair = Pair(Bottleneck(shape["channels"], shape["bits"]))
    pair.load_state_dict(torch.load(out / "split.pt", weights_only=True))
    return Run(full.eval(), pair.eval(), report)


def rows(found: Outputs, labels: data.Bytes, report: dict[str, Any]) -> list[Row]:
    """Exit alone, hybrid by both rules, tail always, full."""
    temperature, threshold = report["temperature"], report["threshold"]
    exit_p = calibrate.softmax(found.exit, temperature["exit"])
    tail_p = calibrate.softmax(found.tail, temperature["tail"])
    cloud = calibrate.hybrid(exit_p, tail_p, labels, threshold, "cloud")
    confident = calibrate.hybrid(exit_p, tail_p, labels, threshold, "confident")
    size = report["cut_bytes"]

    def row(name: str, accuracy: float, shipped: float, each: float) -> Row:
        return Row(name, accuracy, *calibrate.wilson(accuracy, len(labels)), shipped, shipped * each)

    return [
        row("exit alone", calibrate.accuracy(found.exit, labels), 0.0, 0.0),
        row(f"hybrid at {threshold}, the cloud wins", cloud.accuracy, cloud.shipped, size),
        row(f"hybrid at {threshold}, the more confident wins", confident.accuracy, confident.shipped, size),
        row("tail always", calibrate.accuracy(found.tail, labels), 1.0, size),
        row("full, raw pixels", calibrate.accuracy(found.full, labels), 1.0, 28 * 28),
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
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(prog="python -m models.fashion_mnist.report", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder with the four IDX files")
    parser.add_argument("--out", type=Path, default=Path("build/fashion_mnist"), help="where the training wrote")
    args = parser.parse_args(argv)
    run = load(args.out)
    test = data.read_test(args.data)
    lines = rows(outputs(run.full, run.pair, test), test.labels, run.report)
    (args.out / "test.json").write_text(json.dumps([line._asdict() for line in lines], indent=2) + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()
