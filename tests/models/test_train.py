"""The training command runs, goes on where it was stopped, and what it wrote can be read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.fashion_mnist import data, measure, runs, train

QUICK = ["--quick", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of the right size: each class is a grey of its own."""
    made = tmp_path_factory.mktemp("data")
    labels = (np.arange(60_000) % 10).astype(np.uint8)
    images = np.zeros((60_000, 28, 28), np.uint8)
    images[:, 8:20, 8:20] = labels[:, None, None] * 25
    data.write_idx(made / "train-images-idx3-ubyte.gz", images)
    data.write_idx(made / "train-labels-idx1-ubyte.gz", labels)
    return made


@pytest.fixture(scope="module")
def out(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("out")
    train.main([*QUICK, "--data", str(folder), "--out", str(made), "--seed", "3"])
    return made


def test_it_writes_the_unsplit_model_the_pair_and_a_report(out: Path) -> None:
    assert {"full.pt", "seed3.pt", "seed3.json"} <= {path.name for path in out.iterdir()}
    report = json.loads((out / "seed3.json").read_text())
    assert report["seed"] == 3
    assert report["macs"]["head"] <= 1_500_000
    for part in ("calibration", "validation"):
        assert len(report[part]["tail"]) == len(report[part]["bytes"]) == len(report["targets"])


def test_what_was_written_is_read_back_as_it_was_measured(out: Path, folder: Path) -> None:
    run = runs.load(out, seed=3)
    part = data.Labelled(*(array[: train.QUICK] for array in data.read_split(folder).validation))
    found = measure.outputs(run.full, run.pair, part)
    right = [float((logits.argmax(axis=1) == part.labels).mean()) for logits in found.tail]
    assert right == pytest.approx(run.report["validation"]["tail"], abs=0.01)


def test_a_stage_that_was_stopped_goes_on(out: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "full.pt").write_bytes((out / "full.pt").read_bytes())
    (tmp_path / "seed3.last.pt").write_bytes((out / "seed3.last.pt").read_bytes())
    train.main([*QUICK, "--data", str(folder), "--out", str(tmp_path), "--seed", "3"])
    once, again = (torch.load(at / "seed3.pt", weights_only=True) for at in (out, tmp_path))
    assert all(torch.equal(once["tail"][name], again["tail"][name]) for name in once["tail"])
