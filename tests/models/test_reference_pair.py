"""The committed Fashion-MNIST pair: whole, small, and what its manifest says of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_worker.build.choose import named_cut
from cloud_worker.build.cut.cuts import Graph, cuts
from cloud_worker.build.learn.fit_files import FITTED
from cloud_worker.build.learn.learn import learn
from cloud_worker.build.learn.settings import LearnData
from edge_node.heads import open_head
from edge_node.sources import open_source
from models.fashion_mnist import data, hybrid
from models.fashion_mnist.nets import Full
from models.fashion_mnist.outputs import run_head
from schemas.bundle_files import Bundle, open_bundle
from schemas.probability import softmax

ROOT = Path(__file__).parents[2] / "models" / "fashion_mnist"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(ROOT / "bundle")


def test_every_file_is_what_the_manifest_says(bundle: Bundle) -> None:
    bundle.verify()
    assert sum(entry.size for entry in bundle.manifest.files.values()) < 8_000_000


def test_the_head_is_small_and_the_best_operating_point_takes_at_most_64_bytes(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.profile.head_macs <= 1_500_000
    assert (manifest.points[0].mean_bytes or 100) <= 64
    assert sum(point.part == "tail" for point in manifest.points) >= 3


def test_the_committed_sample_is_the_first_thousand_of_the_test_set(bundle: Bundle) -> None:
    source = open_source(ROOT / "test" / "images-idx3-ubyte.gz", bundle.manifest.sample)
    labels = [source.load(index).label for index in range(len(source))]
    assert len(labels) == 1000
    assert labels[:10] == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]


def test_both_heads_compute_the_same(bundle: Bundle) -> None:
    source = open_source(ROOT / "test" / "images-idx3-ubyte.gz", bundle.manifest.sample)
    heads = [open_head(bundle, runtime) for runtime in ("tflite", "numpy")]
    for index in range(50):
        inputs = bundle.manifest.preprocess.apply(source.load(index).array)
        tflite, numpy = (head.run(inputs) for head in heads)
        np.testing.assert_allclose(tflite.cut, numpy.cut, atol=1e-4)
        np.testing.assert_allclose(tflite.logits, numpy.logits, atol=1e-4)


def test_the_head_is_that_of_the_committed_fit(bundle: Bundle, tmp_path: Path) -> None:
    full = Full()
    full.load_state_dict(torch.load(ROOT / "weights" / "full.pt", weights_only=True))
    graph = Graph.trace(full.eval(), torch.zeros(1, 1, 28, 28))
    shutil.copy(ROOT / "weights" / FITTED, tmp_path)
    few = LearnData(torch.zeros(2, 1, 28, 28))
    learnt = learn(graph, named_cut(cuts(graph), "stem"), full, train=few, validation=few, folder=tmp_path)
    source = open_source(ROOT / "test" / "images-idx3-ubyte.gz", bundle.manifest.sample)
    inputs = np.stack([bundle.manifest.preprocess.apply(source.load(index).array) for index in range(20)])
    with torch.no_grad():
        wanted = learnt.head(torch.from_numpy(inputs))
    found = run_head(open_head(bundle, "numpy"), inputs)
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_the_exit_alone_is_right_on_most_of_the_sample(bundle: Bundle) -> None:
    source = open_source(ROOT / "test" / "images-idx3-ubyte.gz", bundle.manifest.sample)
    head = open_head(bundle, "numpy")
    right = 0
    for index in range(len(source)):
        sample = source.load(index)
        logits = head.run(bundle.manifest.preprocess.apply(sample.array)).logits
        assert logits is not None
        right += int(logits.argmax()) == sample.label
    assert right >= 880


def test_train_calibration_and_validation_share_no_image() -> None:
    parts = data.split_indices()
    assert tuple(len(part) for part in parts) == data.SPLIT_SIZES
    assert len(np.unique(np.concatenate(parts))) == 60_000


def test_a_higher_threshold_ships_more() -> None:
    dice = np.random.default_rng(2)
    exit_p, tail_p = (softmax(dice.normal(size=(500, 10)) * 2) for _ in range(2))
    labels = dice.integers(0, 10, 500)
    shipped = [hybrid.hybrid(exit_p, tail_p, labels, threshold).shipped for threshold in (0.3, 0.5, 0.7, 0.9)]
    assert shipped == sorted(shipped)
    assert shipped[0] < shipped[-1]


def test_the_more_confident_answer_wins_where_both_exist() -> None:
    sure, unsure = np.array([[0.9, 0.1]]), np.array([[0.45, 0.55]])
    answers, shipped = hybrid.answers(unsure, sure, 0.8, "confident")
    assert (answers.tolist(), shipped.tolist()) == ([0], [True])
    answers, shipped = hybrid.answers(np.array([[0.7, 0.3]]), unsure, 0.8, "confident")
    assert (answers.tolist(), shipped.tolist()) == ([0], [True])
