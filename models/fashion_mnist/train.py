"""Train the reference pair: stage 1 the unsplit model, stage 2 head and tail together, then calibrate the exit.

    python -m models.fashion_mnist.train [--data DIR] [--out DIR] [--epochs-full N] [--epochs-split N]
                                         [--channels N] [--bits N] [--lr-full R] [--lr-split R] [--softening T]
                                         [--keep SHARE] [--start DIR] [--seed N] [--quick]

Each stage is resumable: run the same command again. Writes full.pt and split.pt (state dicts) and report.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloud_worker.build.learn.fit_files import save
from models.fashion_mnist import calibrate, data
from models.fashion_mnist.fit import Plan, Stage, fit
from models.fashion_mnist.nets import IMAGE_SHAPE, Bottleneck, Full, Head, Tail, count_macs, count_params
from schemas.probability import softmax

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMOOTHING = 0.05
EXIT_WEIGHT = 0.5
HARD_WEIGHT = 0.5
"""Of the labels against the unsplit model's answers."""
AT_RANDOM = 0.15
"""Share of a batch that the tail sees whatever the exit thinks."""
SLACK = 0.0
"""Accuracy that the threshold may give away against the best one on the calibration part."""
MOST_SHIPPED = 0.30


class Pair(nn.Module):
    """Head, rounding and tail in one graph, for training."""

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.head = Head(bottleneck)
        self.tail = Tail(bottleneck)

    def start_from(self, full: Full) -> None:
        """Copy the unsplit model's stem and body."""
        self.head.stem.load_state_dict(full.stem.state_dict())
        self.tail.body.load_state_dict(full.body.state_dict())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, 28, 28) -> exit logits, tail logits, each (N, 10); the rounding passes its gradient through."""
        cut, exit_logits = self.head(x)
        return exit_logits, self.tail(self.bottleneck.straight_through(cut.float()))


class Outputs(NamedTuple):
    """Logits float32 (N, 10) of every answer that can be given for a sample."""

    full: NDArray[np.float32]
    exit: NDArray[np.float32]
    tail: NDArray[np.float32]


@torch.inference_mode()
def outputs(full: nn.Module, pair: nn.Module, part: data.Labelled) -> Outputs:
    """Run the three networks over a part, in float32."""
    full.eval()
    pair.eval()
    rows = [(full(batch), *pair(batch)) for batch in data.batches(part.images)]
    return Outputs(*(torch.cat(column).numpy() for column in zip(*rows, strict=True)))


def full_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with smoothed labels."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    return functional.cross_entropy(logits.float(), labels, label_smoothing=SMOOTHING)


class SplitLoss:
    """Both branches learn from the labels and from the unsplit model's answer to the same augmented image.

    With `keep` below 1 the tail, the only costly part, sees that share of each batch: what the exit doubts most, which
    is what would travel, and some at random.
    """

    def __init__(self, full: nn.Module, softening: float, keep: float) -> None:
        self.full = full.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.softening = softening
        self.keep = keep

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The sum over tail and exit. `model` must be a Pair."""
        assert isinstance(model, Pair)
        with torch.autocast("cpu", torch.bfloat16):
            cut, exit_logits = model.head(images)
            kept = self._doubted(exit_logits.detach().float())
            tail_logits = model.tail(model.bottleneck.straight_through(cut.float()[kept]))
            with torch.no_grad():
                teacher = self.full(images[kept]).float()
        exit_logits, tail_logits = exit_logits.float(), tail_logits.float()
        hard = functional.cross_entropy(tail_logits, labels[kept])
        hard = hard + EXIT_WEIGHT * functional.cross_entropy(exit_logits, labels)
        soft = self._soft(tail_logits, teacher) + EXIT_WEIGHT * self._soft(exit_logits[kept], teacher)
        return HARD_WEIGHT * hard + soft

    def _doubted(self, exit_logits: Tensor) -> Tensor:
        """Rows for the tail."""
        count = round(self.keep * len(exit_logits))
        confidence = exit_logits.softmax(dim=1).amax(dim=1)
        confidence[torch.rand(len(confidence)) < AT_RANDOM] = 0.0
        return confidence.argsort()[:count]

    def _soft(self, logits: Tensor, teacher: Tensor) -> Tensor:
        mine, wanted = (functional.log_softmax(one / self.softening, dim=1) for one in (logits, teacher))
        return self.softening**2 * functional.kl_div(mine, wanted, reduction="batchmean", log_target=True)


@torch.inference_mode()
def score(model: nn.Module, part: data.Labelled) -> float:
    """Accuracy of the model's last output (of a pair: the tail)."""
    model.eval()
    found = [model(batch) for batch in data.batches(part.images)]
    logits = torch.cat([one[-1] if isinstance(one, tuple) else one for one in found])
    return calibrate.accuracy(logits.numpy(), part.labels)


def describe(bottleneck: Bottleneck, full: Full, pair: Pair) -> dict[str, object]:
    """Sizes: multiply-accumulates and parameters of each part, bytes of the cut."""
    cut = (bottleneck.channels, 7, 7)
    return {
        "bottleneck": {**bottleneck._asdict(), "scale": bottleneck.scale, "zero": bottleneck.zero},
        "cut_bytes": bottleneck.payload_bytes,
        "macs": {
            "full": count_macs(full, IMAGE_SHAPE),
            "stem": count_macs(full.stem, IMAGE_SHAPE),
            "head": count_macs(pair.head, IMAGE_SHAPE),
            "tail": count_macs(pair.tail, cut),
        },
        "params": {"full": count_params(full), "head": count_params(pair.head), "tail": count_params(pair.tail)},
    }


def calibrated(full: Full, pair: Pair, split: data.Split) -> dict[str, object]:
    """Temperatures and threshold from the calibration part; accuracies of both held-out parts at that threshold."""
    found = outputs(full, pair, split.calibration)
    labels = split.calibration.labels
    heat = {key: calibrate.temperature(logits, labels) for key, logits in found._asdict().items()}
    probabilities = softmax(found.exit, heat["exit"]), softmax(found.tail, heat["tail"])
    chosen = calibrate.choose_threshold(*probabilities, labels, SLACK, MOST_SHIPPED)
    report: dict[str, object] = {"temperature": heat, "threshold": chosen.threshold}
    for name, part in (("calibration", split.calibration), ("validation", split.validation)):
        found = outputs(full, pair, part)
        row = {key: calibrate.accuracy(logits, part.labels) for key, logits in found._asdict().items()}
        exit_p, tail_p = softmax(found.exit, heat["exit"]), softmax(found.tail, heat["tail"])
        both = calibrate.hybrid(exit_p, tail_p, part.labels, chosen.threshold)
        report[name] = {**row, "hybrid": both.accuracy, "shipped": both.shipped}
    return report


def train_full(args: argparse.Namespace, split: data.Split) -> Full:
    """Stage 1, or its result from an earlier run."""
    path = args.out / "full.pt"
    full = Full()
    if path.exists():
        full.load_state_dict(torch.load(path, weights_only=True))
        return full
    if args.start:
        full.load_state_dict(torch.load(args.start / "full.pt", weights_only=True))
    plan = Plan("full", args.epochs_full, args.lr_full)
    stage = Stage(plan, full_loss, lambda model: score(model, split.validation), split.train)
    best = fit(full, stage, args.out, args.seed)
    save(path, best.state_dict())
    full.load_state_dict(best.state_dict())
    return full


def train_split(args: argparse.Namespace, split: data.Split, full: Full) -> Pair:
    """Stage 2, or its result from an earlier run."""
    path = args.out / "split.pt"
    bottleneck = Bottleneck(args.channels, args.bits)
    pair = Pair(bottleneck)
    if path.exists():
        pair.load_state_dict(torch.load(path, weights_only=True))
        return pair
    pair.start_from(full)
    if args.start:
        pair.load_state_dict(torch.load(args.start / "split.pt", weights_only=True))
    plan = Plan(
        "split", args.epochs_split, args.lr_split, batch=round(128 / args.keep), average=0.998 ** (1 / args.keep)
    )
    stage = Stage(
        plan, SplitLoss(full, args.softening, args.keep), lambda model: score(model, split.validation), split.train
    )
    best = fit(pair, stage, args.out, args.seed + 1)
    save(path, best.state_dict())
    pair.load_state_dict(best.state_dict())
    return pair


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.fashion_mnist.train", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder with the four IDX files")
    parser.add_argument("--out", type=Path, default=Path("build/fashion_mnist"), help="checkpoints and results")
    parser.add_argument("--epochs-full", type=int, default=18)
    parser.add_argument("--epochs-split", type=int, default=10)
    parser.add_argument("--channels", type=int, default=8, help="channels of the cut")
    parser.add_argument("--bits", type=int, default=2, choices=(1, 2, 3, 4), help="bits for each value of the cut")
    parser.add_argument("--lr-full", type=float, default=0.1, help="highest learning rate of stage 1")
    parser.add_argument("--lr-split", type=float, default=0.05, help="highest learning rate of stage 2")
    parser.add_argument("--softening", type=float, default=2.0, help="temperature of the distillation (Hinton 2015)")
    parser.add_argument(
        "--keep", type=float, default=1.0, help="share of each batch that the tail sees, doubted ones first"
    )
    parser.add_argument("--start", type=Path, help="folder of an earlier run whose weights get another cycle")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one epoch of 2,000 images a stage, to see that it runs")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train what is not trained yet, then write the report."""
    args = parse(argv)
    torch.set_flush_denormal(True)  # they made a step four times slower
    args.out.mkdir(parents=True, exist_ok=True)
    split = data.read_split(args.data)
    if args.quick:
        args.epochs_full = args.epochs_split = 1
        split = split._replace(train=data.Labelled(split.train.images[:2000], split.train.labels[:2000]))
    torch.manual_seed(args.seed)
    full = train_full(args, split)
    torch.manual_seed(args.seed + 1)
    pair = train_split(args, split, full)
    report = describe(pair.bottleneck, full, pair) | calibrated(full, pair, split)
    text = json.dumps({"seed": args.seed, **report}, indent=2)
    (args.out / "report.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
