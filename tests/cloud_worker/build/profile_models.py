"""A small image net and a signal net with random weights, their cuts and their samples, to be profiled."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from cloud_worker.build.cut.cuts import Cut, Graph, cuts
from cloud_worker.build.measure.profile_file import SplitProfile
from cloud_worker.build.measure.profiling import Data, Images, Settings, measure, worth_measuring
from schemas.preprocess import Preprocess
from tests.cloud_worker.build.cut_models import signal_net, traced

PREPROCESS = Preprocess(kind="image", scale=1 / 255, mean=(0.5,), std=(0.25,))
QUICK = Settings(model="small", clock_s=0.0, qualities={"webp": (60, 10)})


def image_net() -> nn.Module:
    """Images (N, 1, 16, 16) -> (N, 5); its weights are large enough for answers that differ."""
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 8),
        nn.ReLU(),
        nn.Linear(8, 5),
    )
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(2.0)
    return net


def smooth_images(count: int, seed: int) -> np.ndarray:
    """uint8 (count, 16, 16, 1): gradients with a little noise."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(0, 8, (2, count, 1, 1))
    rows, columns = np.mgrid[-8:8, -8:8]
    values = 128 + slopes[0] * rows + slopes[1] * columns + rng.normal(0, 4, (count, 16, 16))
    return values.clip(0, 255).astype(np.uint8)[..., None]


def image_data() -> Data:
    raw = smooth_images(40, 1), smooth_images(24, 2)
    inputs = [np.stack([PREPROCESS.apply(each) for each in part]) for part in raw]
    labels = np.arange(24, dtype=np.int64) % 5
    return Data(inputs[0], inputs[1], labels, Images(*raw, PREPROCESS))


def signal_data() -> Data:
    rng = np.random.default_rng(3)
    return Data(*(rng.standard_normal((count, 2, 64), np.float32) for count in (24, 16)))


@cache
def image_graph() -> tuple[Graph, list[Cut]]:
    graph = traced(image_net, 1, 16, 16)[1]
    return graph, cuts(graph)


@cache
def signal_graph() -> tuple[Graph, list[Cut]]:
    graph = traced(signal_net, 2, 64)[1]
    return graph, cuts(graph)


@cache
def image_profile() -> SplitProfile:
    graph, every = image_graph()
    return measure(graph, worth_measuring(every), image_data(), QUICK)


@cache
def signal_profile() -> SplitProfile:
    graph, every = signal_graph()
    return measure(graph, worth_measuring(every), signal_data(), QUICK)
