"""How a pair does beside the unsplit model."""

from __future__ import annotations

import torch
from torch import Tensor

from cloud_worker.build.learn import rate
from cloud_worker.build.learn.loss import Teacher
from cloud_worker.build.learn.pair import Pair
from cloud_worker.build.learn.settings import Figures, LearnData


@torch.no_grad()
def figures(pair: Pair, teacher: Teacher, data: LearnData, batch: int) -> Figures:
    """Of a pair in eval mode, for samples float32 (N, ...), some at a time."""
    rows = [_answers(pair, teacher, inputs) for inputs in torch.split(data.inputs, batch)]
    full, tail, leaving, z = (torch.cat(column) for column in zip(*rows, strict=True))
    right = [None if data.targets is None else _share(each, data.targets) for each in (full, tail, leaving)]
    return Figures(
        tail_agrees=_share(tail, full),
        exit_agrees=_share(leaving, full),
        bits=float(rate.bits(z)),
        full_right=right[0],
        tail_right=right[1],
        exit_right=right[2],
    )


def _answers(pair: Pair, teacher: Teacher, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Classes int64 (N,) of the unsplit model, the tail and the exit; z."""
    z, leaving = pair.head(inputs)
    tail = pair.tail(rate.rounded(z))
    return teacher.tail(teacher.head(inputs)).argmax(1), tail.argmax(1), leaving.argmax(1), z


def _share(found: Tensor, wanted: Tensor) -> float:
    return float((found == wanted).double().mean())
