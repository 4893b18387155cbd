"""From the unsplit model and samples to a learnt pair: trained, resumed or taken from a folder.

::

    graph = Graph.trace(model, example)
    learnt = learn(graph, cut, model, train=train, validation=validation, folder=Path("fit"))
    export_numpy(learnt.head, example)
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from cloud_worker.build.cut.cuts import Cut, Graph, split
from cloud_worker.build.export.freeze import weights_digest
from cloud_worker.build.files import made_folder
from cloud_worker.build.learn.figures import figures
from cloud_worker.build.learn.fit_files import (
    FITTED,
    LAST,
    Content,
    check_same,
    damaged,
    load_fitted,
    marks_in,
    read,
    save,
    structure,
    write_fitted,
)
from cloud_worker.build.learn.loop import Plan, State, run_epoch
from cloud_worker.build.learn.loss import Distillation, Teacher
from cloud_worker.build.learn.pair import Pair, classes_of, make_pair
from cloud_worker.build.learn.progress import bar
from cloud_worker.build.learn.settings import Figures, LearnData, LearnSettings, Learnt
from cloud_worker.build.say import Say
from schemas.errors import ConfigError

COPIED_PACE: Final = 0.2
"""Rate of the copied layers, as a share of the new ones'."""
_IMAGE: Final = 4
_LEAST: Final = 2


def learn(
    graph: Graph,
    cut: Cut,
    model: nn.Module,
    *,
    train: LearnData,
    validation: LearnData,
    folder: Path,
    settings: LearnSettings | None = None,
    say: Say = lambda _: None,
) -> Learnt:
    """A pair learnt from `model`, whose graph it is and which stays as it is; `say` gets a line for each epoch.

    `folder/last.pt` has the last whole epoch: a fit that was stopped, or that raised, goes on from there when it is
    called again, to the same bits as without a stop if samples, settings and number of threads are the same. Then
    `folder/fitted.pt` takes its place, and the next call takes the pair from there, however it was learnt.

    Raises ConfigError for a cut without a known shape, for a folder with a fit of something else or a damaged file, or
    in which another process learns, and for a loss that is no longer finite; SampleError for samples that are not as
    `LearnData` says; BundleError for a model that returns no logits; OSError, with its path, where a file cannot be
    written.
    """
    settings = settings or LearnSettings()
    _check(graph, settings, train, validation)
    pair = make_pair(graph, cut, settings)
    of = structure(graph, cut, weights_digest(full=model), settings)
    teacher = Teacher(*split(graph, cut))
    path = folder / FITTED
    with _flushed():
        if path.exists():
            say(f"taking the pair in {path}")
        else:
            fit = _Fit(pair, of, train, settings, folder)
            with _alone(folder):
                best = fit.run(Distillation(teacher, train, settings), _Judge(teacher, validation, settings.batch), say)
                write_fitted(path, best, of, settings, fit.marks)
                (folder / LAST).unlink(missing_ok=True)
        settings = load_fitted(path, pair, of)
        found = _Judge(teacher, validation, settings.batch)(pair.eval())
    return Learnt(pair.head, pair.tail, pair.spec, settings, found)


class _Judge(NamedTuple):
    """What a pair is compared with."""

    teacher: Teacher
    validation: LearnData
    batch: int

    def __call__(self, pair: Pair) -> Figures:
        """Of a pair in eval mode."""
        return figures(pair, self.teacher, self.validation, self.batch)


class _Fit:
    """A training run with its checkpoint."""

    def __init__(self, pair: Pair, of: Content, train: LearnData, settings: LearnSettings, folder: Path) -> None:
        run = {**settings.plain(), "samples": train.digest(), "start": None}
        self.marks = train.marks()
        if settings.start is not None:
            load_fitted(settings.start, pair, None)
            self.marks = torch.cat([self.marks, marks_in(settings.start)])
            run["start"] = weights_digest(head=pair.head, tail=pair.tail)
        plan = Plan(settings.epochs, settings.peak_lr, settings.batch)
        self.state = State(pair, plan, len(train.inputs), settings.seed, slow=list(pair.copied()), pace=COPIED_PACE)
        self._says: dict[str, Any] = {**of, **run}
        self._path = folder / LAST

    def run(self, loss: Distillation, judge: _Judge, say: Say) -> Pair:
        """All epochs that are left; the averaged pair, in eval mode. A folder without a whole epoch is not left."""
        with made_folder(self._path.parent):
            self._run(loss, judge, say)
        return _averaged(self.state)

    def _run(self, loss: Distillation, judge: _Judge, say: Say) -> None:
        state = self.state
        if self._path.exists():
            self._resume()
            say(f"going on after epoch {state.epoch} of {state.plan.epochs}, from {self._path}")
        with bar(state.epoch * state.steps, state.plan.epochs * state.steps) as watch:
            while not state.finished:
                mean = run_epoch(state, loss, watch)
                save(self._path, {"of": self._says, "state": state.content()})
                say(f"epoch {state.epoch}/{state.plan.epochs}: loss {mean:.4f}, {judge(_averaged(state))}")

    def _resume(self) -> None:
        content = read(self._path)
        check_same(self._path, content.get("of"), self._says)
        try:
            self.state.restore(content["state"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise damaged(self._path, error) from None


def _averaged(state: State) -> Pair:
    pair = state.average.eval()
    assert isinstance(pair, Pair)  # noqa: S101 - for the type
    return pair


def _check(graph: Graph, settings: LearnSettings, train: LearnData, validation: LearnData) -> None:
    classes = classes_of(graph)
    train.check("samples to learn from", classes, _LEAST)
    validation.check("samples to validate on", classes, _LEAST)
    if settings.flip and train.inputs.dim() != _IMAGE:
        msg = f"samples of {list(train.inputs.shape[1:])} cannot be flipped, only images (C, H, W); leave flip out"
        raise ConfigError(msg)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While no other process learns in the folder, which is made. Raises ConfigError where one does."""
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        msg = f"another process learns in {folder}; wait for it, or give another folder"
        raise ConfigError(msg) from None
    else:
        yield
    finally:
        os.close(held)


@contextmanager
def _flushed() -> Iterator[None]:
    """Denormal numbers are nought: they make a step several times slower."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
