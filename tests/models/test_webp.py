"""The rival that sends the image."""

from __future__ import annotations

import numpy as np
import pytest

from models.fashion_mnist.webp import Rival, bytes_at, through_webp

CURVE = [Rival(28, 10, 100.0, 0.80), Rival(28, 50, 200.0, 0.90), Rival(20, 90, 210.0, 0.85), Rival(28, 90, 400.0, 0.94)]


def test_bytes_lie_between_the_neighbours_on_the_frontier() -> None:
    assert bytes_at(CURVE, 0.85) == pytest.approx(150.0)
    assert bytes_at(CURVE, 0.92) == pytest.approx(300.0)


def test_what_no_rival_reaches_has_no_price() -> None:
    assert bytes_at(CURVE, 0.95) is None


@pytest.mark.parametrize("side", [28, 16])
def test_an_image_arrives_in_its_own_size(side: int) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[6:22, 6:22] = 200
    arrived, size = through_webp(image, side, 90)
    assert arrived.shape == (28, 28)
    assert 20 < size < 400
    assert np.abs(arrived.astype(int) - image).mean() < 20
