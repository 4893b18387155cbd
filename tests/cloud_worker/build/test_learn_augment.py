"""The loop and what it shows; what is made of a batch: mixtures, and images that moved."""

from __future__ import annotations

import io
import os
import sys

import pytest
import torch

from cloud_worker.build.learn.augment import mixed, moved
from cloud_worker.build.learn.loop import Plan, State, one_cycle
from cloud_worker.build.learn.progress import bar


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_whole_samples_stay_and_the_others_lie_between_two() -> None:
    inputs = torch.eye(200)
    found = mixed(inputs, rng())
    assert torch.equal(found.inputs[found.whole], inputs[found.whole])
    assert 70 < int(found.whole.sum()) < 130
    torch.testing.assert_close(found.inputs.sum(dim=1), torch.ones(200))
    assert (found.inputs >= 0).all()
    assert ((found.inputs > 0).sum(dim=1) <= 2).all()


def test_an_image_moves_by_a_fourteenth_of_its_side_at_most() -> None:
    image = torch.zeros(1, 2, 28, 14)
    image[0, 1, 10, 6] = 1
    found = moved(image.repeat(300, 1, 1, 1), rng(), flip=False)
    channels, rows, columns = (found.nonzero()[:, axis] for axis in (1, 2, 3))
    assert found.shape == (300, 2, 28, 14)
    assert set(channels.tolist()) == {1}
    assert set(rows.tolist()) == {8, 9, 10, 11, 12}
    assert set(columns.tolist()) == {5, 6, 7}


def test_an_image_is_mirrored_only_when_asked_and_then_half_the_time() -> None:
    image = torch.arange(8.0).expand(200, 1, 8, 8)
    assert torch.equal(moved(image, rng(), flip=False), image)
    turned = moved(image, rng(), flip=True)[:, 0, 0, 0] == 7
    assert 70 < int(turned.sum()) < 130


def test_what_is_no_image_stays() -> None:
    signal = torch.randn(3, 2, 32, generator=rng())
    assert moved(signal, rng(), flip=False) is signal


def test_the_rate_rises_and_falls_once() -> None:
    found = [one_cycle(step / 100) for step in range(101)]
    assert max(found) == found[25] == 1
    assert found[:26] == sorted(found[:26])
    assert found[25:] == sorted(found[25:], reverse=True)
    assert found[0] < 0.05
    assert found[-1] < 1e-5


def test_matrices_decay_and_slow_ones_learn_at_their_pace() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    state = State(model, Plan(1, 0.1, weight_decay=0.5), 10, 0, slow=list(model[0].parameters()), pace=0.2)
    groups = {id(each): group for group in state.optimizer.param_groups for each in group["params"]}
    told = [(groups[id(each)]["weight_decay"], groups[id(each)]["pace"]) for each in model.parameters()]
    assert told == [(0.5, 0.2), (0.0, 0.2), (0.5, 1.0), (0.0, 1.0)]


def test_a_terminal_sees_a_bar_with_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with open(theirs, "w", encoding="utf-8") as terminal:  # noqa: PTH123 - a descriptor, no path
        monkeypatch.setattr(sys, "stderr", terminal)
        with bar(2, 5) as watch:
            watch(1.0)
            watch(0.25)
        monkeypatch.undo()
        shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "learning" in shown
    assert "4/5" in shown
    assert "loss 0.2500" in shown


def test_what_is_no_terminal_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with bar(0, 5) as watch:
        watch(1.0)
    assert not sys.stderr.getvalue()
