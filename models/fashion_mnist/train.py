"""Train the reference pair: stage 1 the unsplit model, stage 2 head and tail of one seed, then calibrate.

    python -m models.fashion_mnist.train [--data DIR] [--out DIR] [--seed N] [--epochs-full N] [--epochs-split N]
                                         [--channels N] [--targets BYTES ...] [--lr-full R] [--lr-split R]
                                         [--softening T] [--start FILE] [--views N] [--device D] [--quick]

Each stage is resumable: run the same command again. Writes full.pt, which all seeds share, seedN.pt and seedN.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from models.fashion_mnist import data, measure
from models.fashion_mnist.code_length import OVERHEAD
from models.fashion_mnist.files import load_pair, save, save_pair
from models.fashion_mnist.fit import Plan, Stage, fit
from models.fashion_mnist.nets import Bottleneck, Full
from models.fashion_mnist.pair import Pair, SplitLoss
from models.fashion_mnist.views import Batch, Views

SMOOTHING = 0.05
QUICK = 200
"""Images of every part with --quick."""


def full_loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Cross entropy with smoothed labels."""
    with torch.autocast(batch.images.device.type, torch.bfloat16):
        logits = model(batch.images)
    return torch.nn.functional.cross_entropy(logits.float(), batch.labels, label_smoothing=SMOOTHING)


def train_full(args: argparse.Namespace, split: data.Split) -> Full:
    """Stage 1, or its result from an earlier run."""
    path = args.out / "full.pt"
    full = Full()
    if not path.exists():
        plan = Plan("full", args.epochs_full, args.lr_full, args.seed)
        views = Views(split.train, args.epochs_full, args.device)
        stage = Stage(plan, full_loss, lambda model: measure.score_full(model, split.validation), views)
        save(path, fit(full.to(args.device), stage, args.out).cpu().state_dict())
    full.load_state_dict(torch.load(path, weights_only=True))
    return full.to(args.device)


def train_split(args: argparse.Namespace, split: data.Split, full: Full) -> Pair:
    """Stage 2, or its result from an earlier run; the pair as its file holds it."""
    path = args.out / f"seed{args.seed}.pt"
    pair = Pair(Bottleneck(args.channels, len(args.targets))).to(args.device)
    if not path.exists():
        pair.start_from(full)
        if args.start:
            load_pair(args.start, pair)
        plan = Plan(f"seed{args.seed}", args.epochs_split, args.lr_split, args.seed)
        views = Views(split.train, args.views, args.device).taught_by(full, args.out)
        bits = torch.tensor([8 * (target - OVERHEAD) for target in args.targets], device=args.device)
        loss = SplitLoss(bits, args.softening)
        stage = Stage(plan, loss, lambda model: measure.score_pair(model, split.validation), views)
        best = fit(pair, stage, args.out)
        assert isinstance(best, Pair)
        measure.trim(best, split.calibration, args.targets)
        save_pair(path, best)
    load_pair(path, pair)
    return pair


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.fashion_mnist.train", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder with the four IDX files")
    parser.add_argument("--out", type=Path, default=Path("build/fashion_mnist"), help="checkpoints and results")
    parser.add_argument("--seed", type=int, default=0, help="of the pair; the unsplit model is trained once")
    parser.add_argument("--epochs-full", type=int, default=18)
    parser.add_argument("--epochs-split", type=int, default=45)
    parser.add_argument("--channels", type=int, default=8, help="channels of the cut")
    parser.add_argument(
        "--targets", type=float, nargs="+", default=[62.0, 50.0, 36.0, 24.0], help="bytes of a payload, a rate each"
    )
    parser.add_argument("--lr-full", type=float, default=0.1, help="highest learning rate of stage 1")
    parser.add_argument("--lr-split", type=float, default=0.1, help="highest learning rate of stage 2")
    parser.add_argument("--softening", type=float, default=2.0, help="temperature of the distillation (Hinton 2015)")
    parser.add_argument("--start", type=Path, help="an earlier seedN.pt, to go on from there")
    parser.add_argument("--views", type=int, default=45, help="augmentations that stage 2 goes through in turn")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=torch.device, default=torch.device(default))
    parser.add_argument("--quick", action="store_true", help="one epoch of 200 images a stage, to see that it runs")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train what is not trained yet, then write the report."""
    args = parse(argv)
    torch.set_flush_denormal(True)  # they made a step four times slower
    torch.backends.cudnn.deterministic = True
    args.out.mkdir(parents=True, exist_ok=True)
    split = data.read_split(args.data)
    if args.quick:
        args.epochs_full = args.epochs_split = 1
        split = data.Split(*(data.Labelled(part.images[:QUICK], part.labels[:QUICK]) for part in split))
    torch.manual_seed(args.seed)
    full = train_full(args, split)
    torch.manual_seed(args.seed + 1)
    pair = train_split(args, split, full)
    report = {"seed": args.seed, "targets": args.targets, **measure.describe(full, pair)}
    text = json.dumps({**report, **measure.calibrated(full, pair, split)}, indent=2)
    (args.out / f"seed{args.seed}.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
