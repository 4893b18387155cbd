"""EfficientNet-Lite0 as a whole, the photos' crops, and how many of them are run. Torch."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rate_curves import Ints
from cloud_worker.build.codecs import fisher
from cloud_worker.build.export.freeze import folded
from models.efficientnet_lite0 import nets, photos
from schemas.errors import ConfigError
from schemas.tensor import Array

_BATCH = 8
_QUICK = 9
"""One crop in so many, when in a hurry."""


class Crops(NamedTuple):
    """uint8 (n, 224, 224, 3) each; `photo_of` (n,) numbers the photo of each test crop."""

    calibration: Array
    test: Array
    photo_of: Ints


def load_crops(folder: Path | None, *, quick: bool) -> Crops:
    """The crops of the photos that are found; few of them when `quick`. Raises ConfigError when there are none."""
    try:
        found = photos.photos(folder)
        calibration, test = (photos.crops(found, part) for part in ("calibration", "test"))
    except photos.PhotoError as error:
        msg = f"{error}, or --model fashion_mnist"
        raise ConfigError(msg) from None
    count = sum(photos.part_of(photo) == "test" for photo in found)
    photo_of = np.repeat(np.arange(count), len(test) // count)
    if quick:
        calibration, test, photo_of = calibration[::_QUICK], test[::_QUICK], np.arange(len(test[::_QUICK]))
    return Crops(calibration, test, photo_of)


class Unsplit:
    """The whole net with its BatchNorm folded, run over many samples at a time.

    Batches go to a pool of threads, each of which has torch on one thread (see `one_thread`): torch's own threads wait
    for each other at every layer, which takes ten times as long on a machine that has something else to do.
    """

    def __init__(self, net: nn.Sequential, pool: Executor) -> None:
        self.macs = nets.step_macs(net)
        fused = folded(net)
        assert isinstance(fused, nn.Sequential)
        self.net = fused.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pool = pool

    def macs_share(self, cut: int) -> float:
        """Of the whole net's multiply-accumulates, the share of a head that ends with step `cut`."""
        return sum(self.macs[: cut + 1]) / sum(self.macs)

    def halves(self, cut: int) -> tuple[nn.Sequential, nn.Sequential]:
        """Head and tail."""
        return self.net[: cut + 1].eval(), self.net[cut + 1 :].eval()

    def logits(self, images: Array) -> Array:
        """(n, 1000) for uint8 (n, 224, 224, 3)."""
        return self.run(self.net, images)

    def run(self, steps: nn.Module, inputs: Array) -> Array:
        """What the steps make of images uint8 (n, 224, 224, 3), or of tensors float32 (n, C, H, W)."""
        found = list(self.pool.map(lambda part: _run(steps, part), _batches(inputs)))
        return np.concatenate(found)

    def gradients(self, tail: nn.Module, activations: Array, draws: int) -> Tensor:
        """What `fisher.gradients` gives, float32 (n, draws, C, H, W), each batch with a seed of its own."""
        parts = enumerate(_batches(activations))
        found = self.pool.map(lambda part: fisher.gradients(tail, torch.from_numpy(part[1]), draws, part[0]), parts)
        return torch.cat(list(found))


def _batches(inputs: Array) -> list[Array]:
    return [inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH)]


@torch.inference_mode()
def _run(steps: nn.Module, part: Array) -> Array:
    apply = nets.PREPROCESS.apply
    batch = torch.from_numpy(np.stack([apply(one) for one in part]) if part.dtype == np.uint8 else part)
    found: Array = steps(batch.to(memory_format=torch.channels_last)).contiguous().numpy()
    return found
