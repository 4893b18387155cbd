"""What a newcomer brings: two small models in a file of their own, samples, and `cloud-worker build` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from schemas.tensor import Array

ROOT = Path(__file__).parents[3]
LIMIT_S = 50.0
CLASSES = ("blue", "green", "red")
MODELS = '''
import torch
from torch import nn


class Colours(nn.Module):
    """Tells which colour is strongest; a skip connection and a BatchNorm on the way."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
            self.classifier = nn.Linear(8, 3)
            with torch.no_grad():
                self.stem[0].weight[:3] = torch.eye(3).flip(0)[:, :, None, None] / 9
                self.classifier.weight[:, :3] += 30 * torch.eye(3)

    def forward(self, x):
        x = self.stem(x)
        x = x + 0.1 * self.block(x)
        return self.classifier(x.mean((2, 3)))


def make_signal():
    """Classes of signals of two channels and 64 values: conv1d all through."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        front = nn.Sequential(nn.Conv1d(2, 8, 5, stride=4, padding=2), nn.BatchNorm1d(8), nn.ReLU())
        net = nn.Sequential(front, nn.Conv1d(8, 12, 5, stride=4, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))
        with torch.no_grad():
            net[4].weight *= 8
        return net


def shapeless():
    return nn.Flatten(0)


class Twofold(Colours):
    def forward(self, x):
        return super().forward(x), x.mean()


class Named(Colours):
    def forward(self, x):
        return {"logits": super().forward(x)}


class Halved(Colours):
    def forward(self, x):
        return super().forward(x).half()


class Endless(Colours):
    def forward(self, x):
        return super().forward(x) / 0


def single():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))


def mishes():
    return nn.Sequential(nn.Mish(), nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.Mish(), nn.Linear(8, 3))


def failing():
    raise RuntimeError("no such luck")


def leaving():
    raise SystemExit(3)


number = 3
'''


def write_models(folder: Path) -> ModuleType:
    """`newcomer_nets.py` in the folder, and what importing it gives."""
    (folder / "newcomer_nets.py").write_text(MODELS)
    made = ModuleType("newcomer_nets")
    exec(MODELS, made.__dict__)  # noqa: S102 - the text above
    return made


def write_images(folder: Path, count: int = 20, seed: int = 1) -> None:
    """So many pictures of each class in a sub-folder of its name, 20x24 pixels, one colour the strongest."""
    rng = np.random.default_rng(seed)
    for index, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 100, (5, 6, 3))
            pixels[:, :, 2 - index] += rng.integers(60, 150)
            Image.fromarray(pixels.astype(np.uint8)).resize((24, 20)).save(folder / name / f"{number}.png")


def signals(count: int = 60) -> Array:
    """float32 (count, 2, 64)."""
    return np.random.default_rng(2).normal(size=(count, 2, 64)).cumsum(axis=2).astype(np.float32) / 4


def build(
    folder: Path, *options: str | Path, run: str | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`cloud-worker build` in the folder; `run` is Python that runs instead, in the same place."""
    argv = ["-c", run] if run else ["-m", "cloud_worker"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SPLITBUS_")}
    paths = [str(ROOT), *filter(None, [clean.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, *argv, "build", *map(str, options)],
        cwd=folder,
        env={**clean, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
