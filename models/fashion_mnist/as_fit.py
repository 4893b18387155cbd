"""The committed pair as a finished fit, which `cloud_worker.build.learn` takes without training.

    python -m models.fashion_mnist.as_fit [--weights DIR] --out DIR

Writes fitted.pt into the folder. The weights stay the same; only their names change.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cloud_worker.build.cut.cuts import Cut, Graph, cuts
from cloud_worker.build.export.freeze import weights_digest
from cloud_worker.build.learn.fit_files import FITTED, structure, write_fitted
from cloud_worker.build.learn.pair import Pair, make_pair
from cloud_worker.build.learn.settings import LearnSettings
from models.fashion_mnist.nets import IMAGE_SHAPE
from models.fashion_mnist.runs import Run, load

CUT = "stem"
"""Where the unsplit model is cut, in its own names."""
HALVES = {"stem.": "prefix.stem.", "body.": "suffix.body."}
"""What the halves of the pair are called in a fit."""


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the pair's head or tail with the names of a fit.

    A halved graph has no counters of batches, and the pair has no gains: those stay as they are in a fresh pair.
    """
    found = {}
    for name, tensor in state.items():
        half = next((each for each in HALVES if name.startswith(each)), "")
        if not (half and name.endswith("num_batches_tracked")):
            found[HALVES.get(half, "") + name.removeprefix(half)] = tensor
    return found


def graph_of(run: Run) -> tuple[Graph, Cut]:
    """The unsplit model's graph, and its cut after the stem."""
    graph = Graph.trace(run.full, torch.zeros(1, *IMAGE_SHAPE))
    return graph, next(cut for cut in cuts(graph) if cut.name == CUT)


def as_pair(run: Run, graph: Graph, cut: Cut, settings: LearnSettings) -> Pair:
    """The run's pair as one that `learn` would make, in eval mode, all gains 1."""
    pair = make_pair(graph, cut, settings)
    _fill(pair.head, run.pair.head)
    _fill(pair.tail, run.pair.tail)
    return pair


def _fill(fresh: nn.Module, trained: nn.Module) -> None:
    missing, unexpected = fresh.load_state_dict(renamed(trained.state_dict()), strict=False)
    assert not unexpected, unexpected
    assert missing in ([], ["encoder.1.weight"]), missing


def write(run: Run, folder: Path) -> Path:
    """fitted.pt of a finished run. Raises OSError where it cannot be written.

    Its settings tell the channels and that no rate was asked for; the others are not those of `train`.
    """
    settings = LearnSettings(channels=run.pair.bottleneck.channels, rate_weight=0.0, seed=run.report["seed"])
    graph, cut = graph_of(run)
    folder.mkdir(parents=True, exist_ok=True)
    of = structure(graph, cut, weights_digest(full=run.full), settings)
    write_fitted(folder / FITTED, as_pair(run, graph, cut, settings), of, settings)
    return folder / FITTED


def main(argv: list[str] | None = None) -> None:
    """Write the file and say where."""
    parser = argparse.ArgumentParser(prog="python -m models.fashion_mnist.as_fit", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--weights", type=Path, default=Path("models/fashion_mnist/weights"), help="where the training wrote"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for fitted.pt")
    args = parser.parse_args(argv)
    path = write(load(args.weights), args.out)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
