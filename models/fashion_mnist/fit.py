"""One training loop for both stages: SGD, one cycle, a moving average of the weights, resumable after every epoch."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from models.fashion_mnist.files import save

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from models.fashion_mnist.views import Batch, Views

    Loss = Callable[[nn.Module, Batch], Tensor]
    Score = Callable[[nn.Module], str]

MAX_NORM = 5.0
"""The gradient's norm is clipped to this."""
CODING = "rates."
"""Parameters under this name price bits; Adam moves them, since a price of nearly nothing must not slow them down."""
CODING_RATE = 0.01


class Plan(NamedTuple):
    """How long and how fast one stage trains."""

    name: str
    epochs: int
    peak_lr: float
    seed: int
    batch: int = 128
    weight_decay: float = 5e-4
    average: float = 0.998
    """Decay of the moving average of weights and BatchNorm statistics, per step."""


class Stage(NamedTuple):
    """What is trained on what."""

    plan: Plan
    loss: Loss
    score: Score
    """Is printed after each epoch, for the averaged weights."""
    views: Views


class State:
    """Everything that an epoch changes, so that a stage goes on where it was stopped."""

    def __init__(self, model: nn.Module, plan: Plan, steps: int) -> None:
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(model)
        self.weights, coding = _split(model)
        decay = [{"params": [p for p in self.weights if p.dim() > 1], "weight_decay": plan.weight_decay}]
        plain = [{"params": [p for p in self.weights if p.dim() <= 1], "weight_decay": 0.0}]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.SGD(decay + plain, lr=plan.peak_lr, momentum=0.9, nesterov=True)
        ]
        if coding:
            self.optimizers.append(torch.optim.Adam(coding, lr=CODING_RATE, eps=1e-12))
        self.schedules = [
            torch.optim.lr_scheduler.OneCycleLR(
                one, one.param_groups[0]["lr"], total_steps=steps, pct_start=0.25, cycle_momentum=False
            )
            for one in self.optimizers
        ]
        self.epoch = 0

    def step(self, value: Tensor, decay: float) -> None:
        """Follow the gradient of a loss."""
        for one in self.optimizers:
            one.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.weights, MAX_NORM)
        for one in self.optimizers:
            one.step()
        for schedule in self.schedules:
            schedule.step()
        _follow(self.average, self.model, decay)

    def save(self, path: Path) -> None:
        """Write all of it; a crash leaves the old file whole."""
        parts = {name: part.state_dict() for name, part in self._parts()}
        save(path, {**parts, "epoch": self.epoch})

    def resume(self, path: Path) -> None:
        """Go on from `path` if it exists."""
        if not path.exists():
            return
        saved = torch.load(path, weights_only=True)
        for name, part in self._parts():
            part.load_state_dict(saved[name])
        self.epoch = saved["epoch"]

    def _parts(self) -> Iterator[tuple[str, Any]]:
        yield "model", self.model
        yield "average", self.average
        for name, parts in (("optimizer", self.optimizers), ("schedule", self.schedules)):
            yield from ((f"{name}{index}", part) for index, part in enumerate(parts))


def _split(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Network weights, and what prices bits."""
    named = list(model.named_parameters())
    weights = [p for name, p in named if not name.startswith(CODING)]
    return weights, [p for name, p in named if name.startswith(CODING)]


def fit(model: nn.Module, stage: Stage, out: Path) -> nn.Module:
    """Train `model` in place and return its averaged weights (a copy, in eval mode).

    Progress is kept in out/<name>.last.pt; a stage that was stopped goes on at the start of its epoch, with the random
    numbers that it would have had.
    """
    plan = stage.plan
    state = State(model, plan, len(stage.views) // plan.batch * plan.epochs)
    last = out / f"{plan.name}.last.pt"
    state.resume(last)
    while state.epoch < plan.epochs:
        began = time.monotonic()
        torch.manual_seed(plan.seed * 1_000 + state.epoch)
        mean = _epoch(state, stage)
        state.epoch += 1
        state.save(last)
        line = f"{plan.name} {state.epoch}/{plan.epochs} loss {mean:.4f} {stage.score(state.average)}"
        print(f"{line} {time.monotonic() - began:.0f} s", flush=True)
    return state.average.eval()


def _epoch(state: State, stage: Stage) -> float:
    """One view of the part in random order, the last incomplete batch dropped; the mean loss."""
    plan = stage.plan
    state.model.train()
    view = stage.views.view(state.epoch)
    order = torch.randperm(len(view.labels)).to(view.labels.device)
    steps = len(order) // plan.batch
    total = torch.zeros((), device=order.device)
    for step in range(steps):
        value = stage.loss(state.model, view.take(order[step * plan.batch : (step + 1) * plan.batch]))
        state.step(value, plan.average)
        total += value.detach()
    return float(total) / steps


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Set average to decay * average + (1 - decay) * model, weights and statistics alike."""
    mine = [t for t in average.state_dict().values() if t.is_floating_point()]
    theirs = [t for t in model.state_dict().values() if t.is_floating_point()]
    torch._foreach_lerp_(mine, theirs, 1 - decay)
