"""One training loop for both stages: SGD, one cycle, a moving average of the weights, resumable after every epoch."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from models.fashion_mnist import data

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
    Score = Callable[[nn.Module], float]

MAX_NORM = 5.0
"""The gradient's norm is clipped to this."""


class Plan(NamedTuple):
    """How long and how fast one stage trains."""

    name: str
    epochs: int
    peak_lr: float
    batch: int = 128
    weight_decay: float = 5e-4
    average: float = 0.998
    """Decay of the moving average of weights and BatchNorm statistics, per step."""
    hole: int = 8
    """Side of the blanked square, pixels."""


class State:
    """Everything that an epoch changes, so that a stage goes on where it was stopped."""

    def __init__(self, model: nn.Module, plan: Plan, steps: int, seed: int) -> None:
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(model)
        decay, plain = _weight_groups(model, plan.weight_decay)
        self.optimizer = torch.optim.SGD([decay, plain], lr=plan.peak_lr, momentum=0.9, nesterov=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, plan.peak_lr, total_steps=steps, pct_start=0.25, cycle_momentum=False
        )
        self.rng = torch.Generator().manual_seed(seed)
        self.epoch = 0
        self._parts: dict[str, Any] = {
            "model": self.model,
            "average": self.average,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }

    def save(self, path: Path) -> None:
        """Write all of it; a crash leaves the old file whole."""
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        save(path, {**parts, "rng": self.rng.get_state(), "epoch": self.epoch})

    def resume(self, path: Path) -> None:
        """Go on from `path` if it exists."""
        if not path.exists():
            return
        saved = torch.load(path, weights_only=True)
        for name, part in self._parts.items():
            part.load_state_dict(saved[name])
        self.rng.set_state(saved["rng"])
        self.epoch = saved["epoch"]


def _weight_groups(model: nn.Module, weight_decay: float) -> tuple[dict[str, object], dict[str, object]]:
    """Matrices decay; biases and BatchNorm's gains do not."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    return {"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}


def save(path: Path, content: object) -> None:
    """torch.save through a temporary file beside `path`."""
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    temporary.replace(path)


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
    plan, part = stage.plan, stage.part
    steps = len(part.labels) // plan.batch
    state = State(model, plan, steps * plan.epochs, seed)
    last = out / f"{plan.name}.last.pt"
    state.resume(last)
    images = torch.from_numpy(data.normalise(part.images))
    labels = torch.from_numpy(part.labels).long()
    while state.epoch < plan.epochs:
        began = time.monotonic()
        mean = _epoch(state, stage.loss, images, labels, plan)
        state.epoch += 1
        state.save(last)
        line = f"{plan.name} {state.epoch}/{plan.epochs} loss {mean:.4f} validation {stage.score(state.average):.4f}"
        print(f"{line} {time.monotonic() - began:.0f} s", flush=True)
    return state.average.eval()


def _epoch(state: State, loss: Loss, images: Tensor, labels: Tensor, plan: Plan) -> float:
    """One pass in random order, the last incomplete batch dropped; the mean loss."""
    state.model.train()
    order = torch.randperm(len(labels), generator=state.rng)
    steps = len(labels) // plan.batch
    total = 0.0
    for step in range(steps):
        rows = order[step * plan.batch : (step + 1) * plan.batch]
        batch = data.augment(images[rows], state.rng, hole=plan.hole)
        value = loss(state.model, batch.contiguous(memory_format=torch.channels_last), labels[rows])
        state.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(state.model.parameters(), MAX_NORM)
        state.optimizer.step()
        state.schedule.step()
        _follow(state.average, state.model, plan.average)
        total += value.item()
    return total / steps


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Set average to decay * average + (1 - decay) * model, weights and statistics alike."""
    mine = [t for t in average.state_dict().values() if t.is_floating_point()]
    theirs = [t for t in model.state_dict().values() if t.is_floating_point()]
    torch._foreach_lerp_(mine, theirs, 1 - decay)
