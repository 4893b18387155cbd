"""Both stages in the training loop of `cloud_worker.build.learn`, on augmented images."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from cloud_worker.build.learn import loop
from cloud_worker.build.learn.fit_files import save
from models.fashion_mnist import data

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
    Score = Callable[[nn.Module], float]


class Plan(NamedTuple):
    """How long and how fast one stage trains."""

    name: str
    epochs: int
    peak_lr: float
    batch: int = 128
    average: float = 0.998
    """Decay of the moving average of weights and BatchNorm statistics, per step."""
    hole: int = 8
    """Side of the blanked square, pixels."""


class Stage(NamedTuple):
    """What is trained on what."""

    plan: Plan
    loss: Loss
    """Gets the model, augmented images float32 (N, 1, 28, 28) and labels int64 (N,)."""
    score: Score
    """Is printed after each epoch, for the averaged weights."""
    part: data.Labelled


def fit(model: nn.Module, stage: Stage, out: Path, seed: int) -> nn.Module:
    """Train `model` in place and return its averaged weights (a copy, in eval mode).

    Progress is kept in out/<name>.last.pt; a stage that was stopped goes on at the start of its epoch.
    """
    plan = stage.plan
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pace = loop.Plan(plan.epochs, plan.peak_lr, plan.batch, average=plan.average)
    state = loop.State(model, pace, len(stage.part.labels), seed)
    last = out / f"{plan.name}.last.pt"
    if last.exists():
        state.restore(torch.load(last, weights_only=True))
    loss = _augmented(stage)
    while not state.finished:
        began = time.monotonic()
        mean = loop.run_epoch(state, loss)
        save(last, state.content())
        line = f"{plan.name} {state.epoch}/{plan.epochs} loss {mean:.4f} validation {stage.score(state.average):.4f}"
        print(f"{line} {time.monotonic() - began:.0f} s", flush=True)
    return state.average.eval()


def _augmented(stage: Stage) -> loop.Loss:
    """The stage's loss for rows of its part."""
    images = torch.from_numpy(data.normalise(stage.part.images))
    labels = torch.from_numpy(stage.part.labels).long()

    def loss(model: nn.Module, step: loop.Step) -> Tensor:
        batch = data.augment(images[step.rows], step.rng, hole=stage.plan.hole)
        return stage.loss(model, batch.contiguous(memory_format=torch.channels_last), labels[step.rows])

    return loss
