"""A small trained model of its own kind for each shape of cut, and samples for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloud_worker.build.cut.cuts import Cut, Graph, cuts
from cloud_worker.build.learn.settings import LearnData
from tests.cloud_worker.build.cut_models import settle, token_encoder

CLASSES = 4


class Known(NamedTuple):
    """An unsplit model, and where it is cut."""

    model: nn.Module
    graph: Graph
    cut: Cut


def image_net() -> nn.Module:
    """(N, 1, 16, 16) -> (N, 4); `first` gives (8, 8, 8)."""
    first = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    rest = (nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, CLASSES))
    return nn.Sequential(first, *rest)


def signal_net() -> nn.Module:
    """(N, 2, 32) -> (N, 4); `0` gives (8, 16)."""
    first = nn.Sequential(nn.Conv1d(2, 8, 5, 2, 2), nn.BatchNorm1d(8), nn.ReLU())
    return nn.Sequential(first, nn.Conv1d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, CLASSES))


def vector_net() -> nn.Module:
    """(N, 6) -> (N, 4); `0` gives (12,)."""
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, CLASSES))


def token_net() -> nn.Module:
    """(N, 10, 6) -> (N, 3); `embed` gives (10, 16)."""
    return token_encoder()


@cache
def known(make: Callable[[], nn.Module], name: str, *shape: int) -> Known:
    """A model with fresh weights that is cut after the module of that name; the same for all tests."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = settle(make())
    graph = Graph.trace(model, torch.zeros(1, *shape))
    return Known(model, graph, next(cut for cut in cuts(graph) if cut.name == name))


def blobs(count: int, seed: int) -> LearnData:
    """Images (N, 1, 16, 16) of noise with a bright square in one of four quarters, which is the target."""
    rng = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, CLASSES, (count,), generator=rng)
    images = 0.3 * torch.randn(count, 1, 16, 16, generator=rng)
    corner = torch.randint(1, 4, (count, 2), generator=rng) + 8 * torch.stack([targets // 2, targets % 2], 1)
    for image, (row, column) in zip(images, corner.tolist(), strict=True):
        image[0, row : row + 4, column : column + 4] += 1
    return LearnData(images, targets)


@cache
def trained() -> Known:
    """The image net after some steps on blobs, cut after its first block."""
    data = blobs(256, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = image_net()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(30):
        optimizer.zero_grad()
        functional.cross_entropy(model(data.inputs), _targets(data)).backward()
        optimizer.step()
    graph = Graph.trace(model.eval(), torch.zeros(1, 1, 16, 16))
    return Known(model, graph, next(cut for cut in cuts(graph) if cut.name == "0"))


def _targets(data: LearnData) -> Tensor:
    assert data.targets is not None
    return data.targets
