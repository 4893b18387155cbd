"""The average of two runs' pairs, of which one went on from the other (Wortsman et al., "Model soups", 2022).

    python -m models.fashion_mnist.average --runs build/fourth build/fifth --out build/pair

The unsplit model is the first run's. Weights and BatchNorm statistics are averaged; then temperatures and threshold are
calibrated anew.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from torch import Tensor

from cloud_worker.build.learn.fit_files import save
from models.fashion_mnist import train


def average(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of state dicts with the same names, shapes and dtypes."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(first.dtype)
        for name, first in states[0].items()
    }


def main(argv: list[str] | None = None) -> None:
    """Write full.pt, split.pt and report.json."""
    parser = argparse.ArgumentParser(prog="python -m models.fashion_mnist.average", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders with split.pt")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.runs[0] / "full.pt", args.out / "full.pt")
    save(args.out / "split.pt", average([torch.load(run / "split.pt", weights_only=True) for run in args.runs]))
    train.main(["--out", str(args.out)])


if __name__ == "__main__":
    main()
