"""What a pair is asked for: the unsplit model's answers, from few bits."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloud_worker.build.learn import rate
from cloud_worker.build.learn.augment import Mixture, mixed, moved
from cloud_worker.build.learn.loop import Step
from cloud_worker.build.learn.pair import Pair
from cloud_worker.build.learn.settings import LearnData, LearnSettings

EXIT_WEIGHT: Final = 0.5
"""Of the exit against the tail."""
HARD_WEIGHT: Final = 0.5
"""Of the targets against the unsplit model's answers."""
CUT_WEIGHT: Final = 1.0
"""Of the decoder's error, as a share of the cut's variance, in the first step; 0 in the last."""


class Teacher(NamedTuple):
    """The unsplit model's own halves, which nothing changes."""

    head: nn.Module
    tail: nn.Module


class Distillation:
    """The loss of a step, for samples that are augmented anew each time. Smaller is better; nats.

    With T the temperature, KL(teacher || tail) at T, times T^2, and the same for the exit (Hinton et al. 2015); the
    cross entropy with the targets, where there are any, of samples that were not mixed; the decoder's error, which
    guides the new layers at first; and `rate_weight` a bit. The tail sees z rounded.
    """

    def __init__(self, teacher: Teacher, data: LearnData, settings: LearnSettings) -> None:
        self.teacher = teacher
        self.data = data
        self.settings = settings

    def __call__(self, model: nn.Module, step: Step) -> Tensor:
        """A scalar. `model` must be a Pair in training mode."""
        assert isinstance(model, Pair)  # noqa: S101 - for the type
        batch = self._batch(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.bfloat16):
            with torch.no_grad():
                cut = self.teacher.head(batch.inputs)
                wanted = self.teacher.tail(cut).float()
            z, leaving = model.head(batch.inputs)
            z = z.float()
            decoded = model.tail.decoder(rate.rounded(z))
            arriving = model.tail.suffix(decoded)
        answers = (arriving.float(), leaving.float())
        total = self._soft(answers, wanted) + self.settings.rate_weight * rate.bits(z)
        total = total + CUT_WEIGHT * (1 - step.done) * _error(decoded.float(), cut.float())
        if self.data.targets is not None and batch.whole.any():
            total = total + HARD_WEIGHT * _hard(answers, self.data.targets[step.rows], batch.whole)
        return total

    def _batch(self, step: Step) -> Mixture:
        return mixed(moved(self.data.inputs[step.rows], step.rng, flip=self.settings.flip), step.rng)

    def _soft(self, answers: tuple[Tensor, Tensor], wanted: Tensor) -> Tensor:
        heat = self.settings.softening
        logs = functional.log_softmax(wanted / heat, dim=1)
        tail, leaving = (
            functional.kl_div(functional.log_softmax(each / heat, dim=1), logs, reduction="batchmean", log_target=True)
            for each in answers
        )
        return heat**2 * (tail + EXIT_WEIGHT * leaving)


def _hard(answers: tuple[Tensor, Tensor], targets: Tensor, whole: Tensor) -> Tensor:
    tail, leaving = (functional.cross_entropy(each[whole], targets[whole]) for each in answers)
    return tail + EXIT_WEIGHT * leaving


def _error(decoded: Tensor, cut: Tensor) -> Tensor:
    """Mean square error as a share of the cut's variance over the batch."""
    return functional.mse_loss(decoded, cut) / cut.var(dim=0).mean().clamp_min(torch.finfo(cut.dtype).tiny)
