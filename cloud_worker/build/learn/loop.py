"""One training loop: SGD, one cycle, a moving average of the weights, to be resumed after every epoch.

Given the same state, samples and number of threads, an epoch gives the same bits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from schemas.errors import ConfigError

MAX_NORM: Final = 5.0
"""The gradient's norm is clipped to this."""
RISE: Final = 0.25
"""Share of the steps in which the rate rises; it falls in the others."""
_FIRST: Final = 1 / 25
_LAST: Final = 1 / 250_000
"""Of the highest rate: where the cycle begins and where it ends, torch's own numbers for one cycle."""


class Plan(NamedTuple):
    """How long and how fast."""

    epochs: int
    peak_lr: float
    batch: int = 128
    """Samples a step; all where there are fewer. What does not fill one is left out, other samples in every epoch."""
    weight_decay: float = 5e-4
    average: float = 0.998
    """Decay of the moving average of weights and BatchNorm statistics, per step; lower in the first steps."""


class Step(NamedTuple):
    """What a loss is computed for."""

    rows: Tensor
    """int64 (batch,): which samples."""
    rng: torch.Generator
    """The only source of chance that is resumed."""
    done: float
    """Share of all steps that lie behind, 0 to 1."""


Loss = Callable[[nn.Module, Step], Tensor]
Watch = Callable[[float], None]
"""Is told each step's loss."""


class State:
    """Everything that an epoch changes. The parameters in `slow` learn at `pace` of the rate."""

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        samples: int,
        seed: int,
        *,
        slow: Collection[nn.Parameter] = (),
        pace: float = 1.0,
    ) -> None:
        self.model = model
        self.average = copy.deepcopy(model)
        self.plan = plan
        self.samples = samples
        self.batch = min(plan.batch, samples)
        self.steps = samples // self.batch
        self.optimizer = torch.optim.SGD(
            _groups(model, plan.weight_decay, slow, pace), lr=plan.peak_lr, momentum=0.9, nesterov=True
        )
        self.rng = torch.Generator().manual_seed(seed)
        self.epoch = 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self.plan.epochs

    def content(self) -> dict[str, Any]:
        """All of it, for torch.save."""
        parts: dict[str, Any] = {"model": self.model, "average": self.average, "optimizer": self.optimizer}
        states = {name: part.state_dict() for name, part in parts.items()}
        return {**states, "rng": self.rng.get_state(), "epoch": self.epoch}

    def restore(self, content: dict[str, Any]) -> None:
        """Go on from there. Raises KeyError, TypeError, ValueError or RuntimeError where it does not fit."""
        self.model.load_state_dict(content["model"])
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.rng.set_state(content["rng"])
        self.epoch = int(content["epoch"])


def run_epoch(state: State, loss: Loss, watch: Watch = lambda _: None) -> float:
    """One pass over the samples in random order; the mean loss. `state.epoch` counts it.

    Raises ConfigError when the loss is no longer a finite number.
    """
    state.model.train()
    order = torch.randperm(state.samples, generator=state.rng)
    total = 0.0
    for step in range(state.steps):
        taken = state.epoch * state.steps + step
        done = taken / (state.plan.epochs * state.steps)
        rows = order[step * state.batch : (step + 1) * state.batch]
        value = loss(state.model, Step(rows, state.rng, done))
        found = value.item()
        if not math.isfinite(found):
            msg = f"the loss is {found} in epoch {state.epoch + 1}, step {step + 1}; begin again with a lower peak_lr"
            raise ConfigError(msg)
        _descend(state, value, done)
        _follow(state.average, state.model, min(state.plan.average, (1 + taken) / (10 + taken)))
        total += found
        watch(found)
    state.epoch += 1
    return total / state.steps


def one_cycle(done: float) -> float:
    """The rate as a share of the highest one: it rises along a cosine, then falls (Smith and Topin 2018)."""
    if done < RISE:
        return _cosine(_FIRST, 1.0, done / RISE)
    return _cosine(1.0, _LAST, (done - RISE) / (1 - RISE))


def _cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def _descend(state: State, value: Tensor, done: float) -> None:
    for group in state.optimizer.param_groups:
        group["lr"] = state.plan.peak_lr * group["pace"] * one_cycle(done)
    state.optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.model.parameters(), MAX_NORM)
    state.optimizer.step()


def _groups(model: nn.Module, decay: float, slow: Collection[nn.Parameter], pace: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and gains do not. The slow ones learn at `pace` of the rate."""
    named = {id(parameter) for parameter in slow}
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parts = [
        {
            "params": [p for p in learnt if (p.dim() > 1) == matrices and (id(p) in named) == slowly],
            "weight_decay": decay if matrices else 0.0,
            "pace": pace if slowly else 1.0,
        }
        for matrices in (True, False)
        for slowly in (True, False)
    ]
    return [part for part in parts if part["params"]]


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Set average to decay * average + (1 - decay) * model, weights and statistics alike."""
    mine = [t for t in average.state_dict().values() if t.is_floating_point()]
    theirs = [t for t in model.state_dict().values() if t.is_floating_point()]
    torch._foreach_lerp_(mine, theirs, 1 - decay)
