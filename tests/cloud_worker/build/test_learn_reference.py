"""The committed Fashion-MNIST pair is of the learnt form: its weights fit by renaming, and it is taken as a fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cloud_worker.build.learn.fit_files import FITTED
from cloud_worker.build.learn.learn import learn
from cloud_worker.build.learn.settings import LearnData, LearnSettings
from models.fashion_mnist import as_fit, data
from models.fashion_mnist.runs import Run, load

ROOT = Path(__file__).parents[3] / "models" / "fashion_mnist"


@pytest.fixture(scope="module")
def run() -> Run:
    return load(ROOT / "weights")


def images(count: int) -> torch.Tensor:
    pixels = torch.randint(0, 256, (count, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return torch.from_numpy(data.normalise(pixels.numpy()))


def test_its_weights_fit_by_renaming_and_answer_alike(run: Run) -> None:
    pair = as_fit.as_pair(run, *as_fit.graph_of(run), LearnSettings(channels=8))
    with torch.inference_mode():
        found, wanted = pair.head(images(8)), run.pair.head(images(8))
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pair.tail(wanted[0]), run.pair.tail(wanted[0]), atol=1e-5, rtol=1e-5)
    assert pair.head.encoder.get_parameter("1.weight").tolist() == [1] * 8
    assert pair.spec.shape == (8, 7, 7)


def test_as_a_fit_it_is_taken_without_learning(run: Run, tmp_path: Path) -> None:
    assert as_fit.write(run, tmp_path) == tmp_path / FITTED
    graph, cut = as_fit.graph_of(run)
    few = LearnData(images(8))
    learnt = learn(graph, cut, run.full, train=few, validation=few, folder=tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(learnt.head(few.inputs), run.pair.head(few.inputs), atol=1e-5, rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [FITTED]
