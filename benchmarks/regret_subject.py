"""What `regret` plans for: a model with its samples, profiled on this machine with its heads on the edge runtime."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from cloud_worker.build.cut.cuts import Cut, Graph, cuts
from cloud_worker.build.export.freeze import folded
from cloud_worker.build.measure.data import Data, Images, Settings
from cloud_worker.build.measure.heads_to_time import export_heads, on_device
from cloud_worker.build.measure.profile_file import SplitProfile
from cloud_worker.build.measure.profiling import measure, worth_measuring
from models.efficientnet_lite0 import nets, photos
from schemas.bundle import HEAD_NUMPY, HEAD_TFLITE
from schemas.device_times import parse_device_times
from schemas.errors import BundleError
from schemas.preprocess import Preprocess
from schemas.tensor import Array

_CALIBRATION, _HELD_OUT = 24, 24
_SIDE, _CLASSES = 96, 10


class Subject(NamedTuple):
    """A model in eval mode, and images uint8 (N, side, side, 3) of which none is in both parts."""

    name: str
    net: nn.Module
    preprocess: Preprocess
    calibration: Array
    held_out: Array

    def inputs(self, images: Array) -> Array:
        """float32 (N, 3, side, side)."""
        return np.stack([self.preprocess.apply(image) for image in images])


class Profiled(NamedTuple):
    """A subject, where it may be cut, and what everything takes."""

    subject: Subject
    graph: Graph
    cuts: dict[int, Cut]
    profile: SplitProfile
    heads: dict[int, tuple[str, bytes]]
    """By the cut's index: the file's name in a bundle, and its bytes."""


def subject(*, quick: bool) -> Subject:
    """EfficientNet-Lite0 on photos where both are installed, else a net of random weights on noise of two scales."""
    try:
        if quick:
            return _made_up()
        net = folded(nets.load_net()).eval()
        found = photos.photos(None)
        parts = [photos.crops(found, "calibration")[:_CALIBRATION], photos.crops(found, "test")]
    except (FileNotFoundError, photos.PhotoError):
        return _made_up()
    spread = parts[1][:: max(1, len(parts[1]) // _HELD_OUT)][:_HELD_OUT]
    return Subject("efficientnet_lite0", net, nets.PREPROCESS, parts[0], spread)


def _made_up() -> Subject:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        widths = (3, 12, 48, 96)
        pairs = itertools.pairwise(widths)
        blocks = [nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU()) for a, b in pairs]
        net = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], _CLASSES)).eval()
    rng = np.random.default_rng(3)
    scales = [
        rng.normal(size=(40, side, side, 3)).repeat(_SIDE // side, 1).repeat(_SIDE // side, 2) for side in (4, 24)
    ]
    images = np.clip(128 + 40 * scales[0] + 20 * scales[1], 0, 255).astype(np.uint8)
    return Subject("made_up", net.requires_grad_(requires_grad=False), Preprocess(), images[:24], images[24:])


def profiled(given: Subject, folder: Path, most: int, seconds: float, say: Callable[[str], None]) -> Profiled:
    """The subject's profile with at most so many cuts, none of more values than the input has.

    Heads are TFLite where it can be exported here, else NumPy; `edge-node profile` times them in its own process.
    Raises BundleError where they cannot be timed.
    """
    inputs = [given.inputs(part) for part in (given.calibration, given.held_out)]
    graph = Graph.trace(given.net, torch.zeros(1, *inputs[0].shape[1:]))
    chosen = worth_measuring([cut for cut in cuts(graph) if cut.elements <= inputs[0][0].size], most)
    images = Images(given.calibration, given.held_out, given.preprocess)
    settings = Settings(given.name, targets=(0.05,), qualities={"webp": (80, 50)}, clock_s=seconds)
    profile = measure(graph, chosen, Data(inputs[0], inputs[1], None, images), settings, say)
    with contextlib.redirect_stdout(sys.stderr):  # the converter prints its steps
        files = export_heads(graph, chosen, folder).files
    done = subprocess.run(
        [sys.executable, "-m", "edge_node", "profile", str(folder), "--seconds", str(seconds)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        msg = f"the heads were not timed: {done.stderr.decode(errors='replace')[-300:]}; run edge-node profile yourself"
        raise BundleError(msg)
    timed = on_device(profile, parse_device_times(done.stdout))
    heads = {index: (_file(path), path.read_bytes()) for index, path in files.items()}
    return Profiled(given, graph, {cut.index: cut for cut in chosen}, timed.profile, heads)


def _file(path: Path) -> str:
    return {".tflite": HEAD_TFLITE, ".npz": HEAD_NUMPY}[path.suffix]


def of_sample(given: Subject) -> dict[str, Any]:
    """A manifest's `sample` and `preprocess`."""
    shape = given.held_out.shape[1:]
    return {"sample": {"dtype": "uint8", "shape": shape}, "preprocess": given.preprocess.model_dump()}
