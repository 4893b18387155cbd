"""Train the unsplit model: cross entropy with smoothed labels, one cycle, a moving average of the weights.

    python -m models.fashion_mnist.train [--data DIR] [--out DIR] [--epochs N] [--peak-lr R] [--seed N] [--quick]

Resumable: run the same command again. Writes full.pt, a state dict. What is split off it is learnt by
`cloud-worker build --fit`; see README.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloud_worker.build.learn import loop
from cloud_worker.build.learn.fit_files import save
from models.fashion_mnist import data, hybrid
from models.fashion_mnist.nets import Full

SMOOTHING = 0.05


class Loss:
    """Of augmented images of a part."""

    def __init__(self, part: data.Labelled) -> None:
        self._images = torch.from_numpy(data.normalise(part.images))
        self._labels = torch.from_numpy(part.labels).long()

    def __call__(self, model: nn.Module, step: loop.Step) -> Tensor:
        """A scalar."""
        images = data.augment(self._images[step.rows], step.rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        return functional.cross_entropy(logits.float(), self._labels[step.rows], label_smoothing=SMOOTHING)


@torch.inference_mode()
def score(model: nn.Module, part: data.Labelled) -> float:
    """Accuracy."""
    model.eval()
    logits = torch.cat([model(batch) for batch in data.batches(part.images)])
    return hybrid.accuracy(logits.numpy(), part.labels)


def train(split: data.Split, plan: loop.Plan, seed: int, out: Path) -> nn.Module:
    """The averaged weights, in eval mode; out/full.last.pt keeps every finished epoch."""
    torch.manual_seed(seed)
    model = Full().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state, loss, last = loop.State(model, plan, len(split.train.labels), seed), Loss(split.train), out / "full.last.pt"
    if last.exists():
        state.restore(torch.load(last, weights_only=True))
    while not state.finished:
        began = time.monotonic()
        mean = loop.run_epoch(state, loss)
        save(last, state.content())
        right = score(state.average, split.validation)
        told = f"{state.epoch}/{plan.epochs} loss {mean:.4f} validation {right:.4f} {time.monotonic() - began:.0f} s"
        print(told, flush=True)
    return state.average.eval()


def main(argv: list[str] | None = None) -> None:
    """Train, and write the weights."""
    parser = argparse.ArgumentParser(prog="python -m models.fashion_mnist.train", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder with the four IDX files")
    parser.add_argument("--out", type=Path, default=Path("build/fashion_mnist"), help="checkpoint and result")
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--peak-lr", type=float, default=0.1, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one epoch of 2,000 images, to see that it runs")
    args = parser.parse_args(argv)
    torch.set_flush_denormal(True)  # they made a step four times slower
    args.out.mkdir(parents=True, exist_ok=True)
    split, plan = data.read_split(args.data), loop.Plan(args.epochs, args.peak_lr)
    if args.quick:
        plan = plan._replace(epochs=1)
        split = split._replace(train=data.Labelled(split.train.images[:2000], split.train.labels[:2000]))
    model = train(split, plan, args.seed, args.out)
    save(args.out / "full.pt", model.state_dict())


if __name__ == "__main__":
    main()
