"""Augmented views: the same for every seed, with the teacher's answers kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.fashion_mnist import data
from models.fashion_mnist.nets import Full
from models.fashion_mnist.views import Views

CPU = torch.device("cpu")


@pytest.fixture
def part() -> data.Labelled:
    dice = np.random.default_rng(1)
    return data.Labelled(dice.integers(0, 256, (6, 28, 28)).astype(np.uint8), np.arange(6, dtype=np.uint8))


def test_a_view_depends_on_its_index_alone(part: data.Labelled) -> None:
    first, again = Views(part, 3, CPU), Views(part, 3, CPU)
    assert torch.equal(first.view(1).images, again.view(1).images)
    assert torch.equal(first.view(1).images, first.view(4).images)
    assert not torch.equal(first.view(1).images, first.view(2).images)
    assert first.view(1).teacher is None


def test_the_teacher_answers_to_the_very_image_that_the_pupil_sees(part: data.Labelled, tmp_path: Path) -> None:
    torch.manual_seed(1)
    full = Full()
    view = Views(part, 2, CPU).taught_by(full, tmp_path).view(0)
    assert view.teacher is not None
    with torch.inference_mode():
        torch.testing.assert_close(view.teacher, full(view.images), atol=0.05, rtol=0.05)


def test_the_teacher_is_asked_once_for_each_view(part: data.Labelled, tmp_path: Path) -> None:
    full = Full()
    first = Views(part, 2, CPU).taught_by(full, tmp_path).view(1).teacher
    kept = list(tmp_path.rglob("*.pt"))
    assert [path.name for path in kept] == ["1.pt"]
    stamp = kept[0].stat().st_mtime_ns
    again = Views(part, 2, CPU).taught_by(full, tmp_path).view(1).teacher
    assert first is not None
    assert again is not None
    assert torch.equal(first, again)
    assert kept[0].stat().st_mtime_ns == stamp


def test_another_teacher_is_asked_itself(part: data.Labelled, tmp_path: Path) -> None:
    for _ in range(2):
        Views(part, 1, CPU).taught_by(Full(), tmp_path).view(0)
    assert len(list(tmp_path.rglob("0.pt"))) == 2
