"""The two halves that a bundle is made of: the model as it is cut, or what was learnt around the cut."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cloud_worker.build.codecs.rates import logits_of
from cloud_worker.build.cut.cuts import Cut, Graph, split
from cloud_worker.build.cut.macs import macs_of
from cloud_worker.build.export.heads import HeadTensors, example_of
from cloud_worker.build.fit_options import Fitting
from cloud_worker.build.learn.fit_files import FITTED, check_unseen
from cloud_worker.build.learn.learn import learn
from cloud_worker.build.learn.settings import LearnData, LearnSettings, Learnt
from cloud_worker.build.samples.dealt import Part, SampleSet
from cloud_worker.build.say import Say
from schemas.errors import ConfigError
from schemas.tensor import TensorSpec

_BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """A head and the tail that finishes what it begins."""

    head: nn.Module
    """float32 (N, ...) -> the cut (N, ...), or the cut and the exit's logits (N, classes)."""
    tail: nn.Module
    """The cut (N, ...) -> logits (N, classes)."""
    cut: TensorSpec
    head_macs: int
    """For one sample, with the exit."""
    tail_macs: int
    learnt: Learnt | None = None
    """Where the halves are not the model's own, but learnt from it."""

    @torch.no_grad()
    def run_head(self, inputs: Tensor) -> HeadTensors:
        """Cuts, and the exit's logits where there is one, of float32 (N, ...)."""
        found = [self.head(part) for part in torch.split(inputs, _BATCH)]
        if self.learnt is None:
            return HeadTensors(torch.cat(found).numpy(), None)
        cuts, logits = (torch.cat(column).numpy() for column in zip(*found, strict=True))
        return HeadTensors(cuts, logits)

    @torch.no_grad()
    def run_tail(self, cuts: Tensor) -> Tensor:
        """Logits (N, classes) of cuts that lost nothing on the way."""
        return logits_of(self.tail, cuts)


def make_halves(
    model: nn.Module, graph: Graph, cut: Cut, *, fitting: Fitting | None, samples: SampleSet, say: Say
) -> Halves:
    """The model's own halves, or those that are learnt around the cut.

    Raises ConfigError for a cut that is refused and for an earlier fit that has seen samples which are to try it, else
    as `learn` does.
    """
    if fitting is None or samples.learning is None:
        return own_halves(graph, cut)
    settings = LearnSettings(
        channels=fitting.channels,
        epochs=fitting.epochs,
        batch=fitting.batch,
        peak_lr=fitting.peak_lr,
        rate_weight=fitting.rate_weight,
        flip=fitting.flip,
        tokens=fitting.tokens,
        bfloat16=fitting.bfloat16,
        seed=fitting.seed,
        start=fitting.start,
    )
    _check_unseen(fitting, samples)
    say(f"learning from {len(samples.learning)} samples, progress in {fitting.folder}")
    learnt = learn(
        graph,
        cut,
        model,
        train=_learn_data(samples.learning),
        validation=_learn_data(samples.calibration),
        folder=fitting.folder,
        settings=settings,
        say=say,
    )
    shape = example_of(samples.calibration.inputs), torch.zeros(1, *learnt.spec.shape)
    macs = _macs(_Joined(learnt.head), shape[0]), _macs(learnt.tail, shape[1])
    return Halves(learnt.head, learnt.tail, learnt.spec, *macs, learnt)


def _check_unseen(fitting: Fitting, samples: SampleSet) -> None:
    """Raise ConfigError where a fit that is taken, or begun from, has seen samples that calibrate or are held out."""
    marks = torch.cat([_learn_data(part).marks() for part in (samples.calibration, samples.held_out)])
    for path in (fitting.folder / FITTED, fitting.start):
        if path is not None and path.exists():
            check_unseen(path, marks)


def own_halves(graph: Graph, cut: Cut) -> Halves:
    """The model's own: together they are the model. Raises ConfigError for a cut that is refused."""
    head, tail = split(graph, cut)
    if cut.spec is None:
        msg = f"the model cannot be cut after {cut.name}"
        raise ConfigError(msg)
    return Halves(head, tail, cut.spec, cut.macs, full_macs(graph) - cut.macs)


def _learn_data(part: Part) -> LearnData:
    return LearnData(part.inputs, None if part.targets is None else torch.from_numpy(part.targets))


def full_macs(graph: Graph) -> int:
    """Multiply-accumulates of the whole model for one sample."""
    return sum(macs_of(step, graph.batch) for step in graph.steps)


def _macs(module: nn.Module, example: Tensor) -> int:
    return full_macs(Graph.trace(module.eval(), example))


class _Joined(nn.Module):
    """Both outputs of a head as one, so that no step of either is left out."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self._head = head

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, ...) -> (N, all values)."""
        return torch.cat([each.flatten(1) for each in self._head(x)], dim=1)
