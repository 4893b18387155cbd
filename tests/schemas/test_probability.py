from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.probability import softmax

LOGITS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20)
TEMPERATURES = st.floats(0.01, 100)


def test_known_values() -> None:
    assert softmax(np.log(np.array([1, 2, 5], np.float32))).tolist() == pytest.approx([0.125, 0.25, 0.625])
    assert softmax(np.array([0.0, np.log(9.0)]), 2.0).tolist() == pytest.approx([0.25, 0.75])


@given(LOGITS, TEMPERATURES)
def test_probabilities_that_sum_to_one_in_the_order_of_the_logits(values: list[float], temperature: float) -> None:
    logits = np.array(values, np.float32)
    chances = softmax(logits, temperature)
    assert chances.dtype == np.float64
    assert chances.sum() == pytest.approx(1.0)
    assert ((chances >= 0) & (chances <= 1)).all()
    assert chances[logits.argmax()] == chances.max()


@given(LOGITS, TEMPERATURES)
def test_rows_of_a_batch_do_not_touch_each_other(values: list[float], temperature: float) -> None:
    row = np.array(values, np.float32)
    batch = softmax(np.stack([row, row[::-1]]), temperature)
    assert batch[0].tolist() == softmax(row, temperature).tolist()
    assert batch[1].tolist() == softmax(row[::-1], temperature).tolist()
