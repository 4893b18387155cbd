"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): reading, the fixed split, preprocessing and augmentation.

Images are uint8 (N, 28, 28), 0 = background; labels are uint8 (N,), 0 to 9.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge_node.idx import read_idx
from schemas.errors import SampleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

DEFAULT_FOLDER = Path("/usr/share/datasets/fashion-mnist")
LABELS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
MEAN = 0.2860
"""Mean of the training pixels / 255."""
STD = 0.3530
"""Their standard deviation."""
HALF = 0.5
SPLIT_SEED = 2026
SPLIT_SIZES = (50_000, 5_000, 5_000)
SPLIT_SHA256 = "51e7fe4a3eaf938cf849b0e9c2f5454a5207b05b301c3f3d78f23f4050977e66"
"""SHA-256 of the permutation as little-endian int64; another one is refused, not used."""
_IDX_OF_BYTES = b"\0\0\x08"
_REMEDY = "install the Debian package dataset-fashion-mnist or pass --data DIR"


class DataError(ValueError):
    """The data set is missing or is not what it should be; the message says what to do."""


class Labelled(NamedTuple):
    """Images uint8 (N, 28, 28) and their labels uint8 (N,)."""

    images: Bytes
    labels: Bytes


class Split(NamedTuple):
    """The three disjoint parts of the 60,000 training images; none of them is ever used for another's purpose."""

    train: Labelled
    """50,000: gradients."""
    calibration: Labelled
    """5,000: temperatures, threshold, codec scales."""
    validation: Labelled
    """5,000: the choice of checkpoint and of hyperparameters."""


def write_idx(path: Path, array: Bytes) -> None:
    """A gzipped IDX file, as `read_idx` reads it; equal arrays give equal bytes (no time stamp, no file name)."""
    head = _IDX_OF_BYTES + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes(), compresslevel=9, mtime=0))


def _read_pair(folder: Path, name: str, count: int) -> Labelled:
    try:
        images = read_idx(folder / f"{name}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz")
    except SampleError as error:
        msg = f"{folder}: {error}, or {_REMEDY}"
        raise DataError(msg) from None
    if images.shape != (count, 28, 28) or labels.shape != (count,):
        msg = f"{folder} holds images {images.shape} and labels {labels.shape}, expected {count}: {_REMEDY}"
        raise DataError(msg)
    return Labelled(images, labels)


def read_test(folder: Path = DEFAULT_FOLDER) -> Labelled:
    """The 10,000 test images. Only the final report, and `samples`, which copies the first 1,000, read them."""
    return _read_pair(folder, "t10k", 10_000)


def split_indices() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Train, calibration and validation indices; the legacy generator is used because its stream is frozen."""
    order = np.random.RandomState(SPLIT_SEED).permutation(sum(SPLIT_SIZES)).astype("<i8")
    if hashlib.sha256(order.tobytes()).hexdigest() != SPLIT_SHA256:
        msg = "the seeded permutation differs from the one written down; use the NumPy of the constraints file"
        raise DataError(msg)
    first, second, _ = np.cumsum(SPLIT_SIZES)
    return order[:first], order[first:second], order[second:]


def read_split(folder: Path = DEFAULT_FOLDER) -> Split:
    """The training images, cut in three."""
    images, labels = _read_pair(folder, "train", sum(SPLIT_SIZES))
    return Split(*(Labelled(images[part], labels[part]) for part in split_indices()))


def normalise(images: Bytes) -> NDArray[np.float32]:
    """(N, 28, 28) uint8 -> (N, 1, 28, 28) float32, (x / 255 - mean) / std, as the bundle's preprocessing does it."""
    scaled = (images.astype(np.float32) * np.float32(1 / 255) - np.float32(MEAN)) / np.float32(STD)
    out: NDArray[np.float32] = scaled[:, None]
    return out


def batches(images: Bytes, size: int = 500) -> Iterator[Tensor]:
    """Normalised images float32 (at most `size`, 1, 28, 28), in order."""
    inputs = torch.from_numpy(normalise(images))
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size]


def augment(images: Tensor, rng: torch.Generator, shift: int = 2, hole: int = 8) -> Tensor:
    """Mirror one half, move each by up to `shift` pixels, blank a square of `hole` pixels in half of them.

    float32 (N, 1, 28, 28) -> the same shape. The blank is background (DeVries and Taylor 2017, cutout).
    """
    n, _, h, w = images.shape
    background = -MEAN / STD
    padded = functional.pad(images, [shift] * 4, value=background)[:, 0]
    rows = torch.randint(0, 2 * shift + 1, (n, 1), generator=rng) + torch.arange(h)
    columns = torch.randint(0, 2 * shift + 1, (n, 1), generator=rng) + torch.arange(w)
    mirrored = torch.rand(n, 1, generator=rng) < HALF
    columns = torch.where(mirrored, columns.flip(1), columns)
    moved = padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    holes = _band(n, h, hole, rng)[:, :, None] & _band(n, w, hole, rng)[:, None, :]
    holes &= torch.rand(n, 1, 1, generator=rng) < HALF
    return moved.masked_fill(holes, background)[:, None]


def _band(n: int, size: int, hole: int, rng: torch.Generator) -> Tensor:
    """Bool (n, size): true on `hole` neighbours about a random centre, clipped at the border."""
    centre = torch.randint(0, size, (n, 1), generator=rng)
    offset = torch.arange(size) - centre + hole // 2
    return (offset >= 0) & (offset < hole)
