"""What the training says when its data set is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.fashion_mnist import data


def write(folder: Path, images: int, labels: int) -> None:
    data.write_idx(folder / "t10k-images-idx3-ubyte.gz", np.zeros((images, 28, 28), np.uint8))
    data.write_idx(folder / "t10k-labels-idx1-ubyte.gz", np.zeros(labels, np.uint8))


def test_the_whole_test_set_is_read(tmp_path: Path) -> None:
    write(tmp_path, 10_000, 10_000)
    found = data.read_test(tmp_path)
    assert (found.images.shape, found.labels.shape) == ((10_000, 28, 28), (10_000,))


def test_a_missing_set_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=r"t10k-images.* or install the Debian package dataset-fashion-mnist"):
        data.read_test(tmp_path)


def test_a_damaged_file_is_said_with_the_remedy(tmp_path: Path) -> None:
    write(tmp_path, 10, 10)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-9])
    with pytest.raises(data.DataError, match=r"t10k-labels.* cannot be read whole .* or pass --data DIR"):
        data.read_test(tmp_path)


def test_another_number_of_images_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 10, 10)
    with pytest.raises(data.DataError, match="expected 10000"):
        data.read_test(tmp_path)
