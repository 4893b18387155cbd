"""What travelled and what the output lost by it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from benchmarks.rate_points import Reference, error_curve, kl_curve, log_softmax, through
from schemas.codecs import open_codec
from schemas.tensor import TensorSpec


def logs(*rows: list[float]) -> np.ndarray:
    return np.log(np.array(rows))


def test_kl_is_of_the_unsplit_answer_from_the_other_in_nats() -> None:
    reference = Reference(logs([0.5, 0.5], [0.9, 0.1]))
    found = reference.judge("c", {}, np.array([1.0, 3.0]), logs([0.25, 0.75], [0.9, 0.1]))
    assert found.kl == pytest.approx([0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0.0])
    assert found.right is None


def test_a_row_has_means_quantiles_and_accuracy_where_there_are_labels() -> None:
    reference = Reference(logs([0.8, 0.2], [0.8, 0.2]), np.array([0, 1]))
    row = reference.judge("c", {"level": 3}, np.array([10.0, 30.0]), logs([0.8, 0.2], [0.2, 0.8])).row()
    assert (row["codec"], row["level"], row["samples"], row["bytes"], row["bytes_p50"]) == ("c", 3, 2, 20, 20)
    assert row["bytes_p95"] == pytest.approx(29)
    assert (row["agreement"], row["accuracy"]) == (0.5, 1.0)


def test_every_other_sample_is_judged_alike() -> None:
    rng = np.random.default_rng(1)
    a, b = log_softmax(rng.normal(size=(6, 4))), log_softmax(rng.normal(size=(6, 4)))
    whole = Reference(a, np.zeros(6)).judge("c", {}, np.ones(6), b)
    part = Reference(a, np.zeros(6)).every(2).judge("c", {}, np.ones(3), b[::2])
    assert part.kl == pytest.approx(whole.kl[::2])


def test_log_softmax_of_large_logits_is_finite() -> None:
    found = log_softmax(np.array([[1000.0, 0.0, -1000.0]]), temperature=0.5)
    assert np.isfinite(found).all()
    assert np.exp(found).sum() == pytest.approx(1)


@pytest.mark.parametrize("threads", [0, 2])
def test_samples_arrive_in_order_with_their_sizes(threads: int) -> None:
    codec = open_codec("minmax_u8", TensorSpec(dtype="float32", shape=(2, 3)), {})
    samples = np.random.default_rng(1).normal(size=(9, 2, 3)).astype(np.float32)
    if threads:
        with ThreadPoolExecutor(threads) as pool:
            arrived = through(codec, samples, pool)
    else:
        arrived = through(codec, samples)
    assert arrived.sizes.tolist() == [14] * 9
    np.testing.assert_allclose(arrived.arrays, samples, atol=0.02)


def test_curves_have_a_point_for_each_setting() -> None:
    reference = Reference(logs([0.8, 0.2], [0.2, 0.8]), np.array([0, 0]))
    points = [reference.judge("c", {}, np.array([2.0, 4.0]), logs([0.8, 0.2], [p, 1 - p])) for p in (0.2, 0.9)]
    assert kl_curve(points).losses.shape == (2, 2)
    assert error_curve(points).losses.tolist() == [[0, 1], [0, 0]]
