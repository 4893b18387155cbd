"""What certificates are tried on: populations whose selective error is known at every threshold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.rate_fashion import read_part
from benchmarks.rate_points import through
from cloud_worker.build.certify import ece
from edge_node.heads import open_head
from models.fashion_mnist import data, outputs
from schemas.bundle import TAIL, Exit
from schemas.bundle_files import Bundle
from schemas.certificate import Mode
from schemas.errors import ConfigError
from schemas.probability import softmax
from schemas.tensor import Array

Drawn = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Confidences (n,) and which answers are wrong (n,)."""
LOWEST = 0.3


class Truth(NamedTuple):
    """What holds at a threshold for the whole population."""

    risk: float
    """P(wrong | confidence >= threshold); 0 where nothing is covered."""
    coverage: float


class Population(Protocol):
    """Where calibration samples are drawn from, independently."""

    name: str
    mode: Mode

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """`count` independent samples."""

    def truth(self, threshold: float) -> Truth:
        """Exact, not estimated."""


class Synthetic:
    """Confidence 1 - 0.7 u^2 with u uniform on 0 to 1; wrong with probability chance(u), whose integral is harm(s)."""

    mode: Mode = "labels"

    def __init__(self, name: str, chance: Callable[[Array], Array], harm: Callable[[float], float]) -> None:
        self.name, self._chance, self._harm = name, chance, harm

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """`count` independent samples."""
        place = rng.random(count)
        return 1 - (1 - LOWEST) * place**2, rng.random(count) < self._chance(place)

    def truth(self, threshold: float) -> Truth:
        """In closed form: what is covered are the u up to s, the root of (1 - threshold) / 0.7."""
        covered = min(1.0, ((1 - threshold) / (1 - LOWEST)) ** 0.5)
        return Truth(self._harm(covered) / covered if covered else 0.0, covered)


class Pool:
    """A finite set of samples, drawn from with replacement, so that the set itself is the whole population."""

    def __init__(self, name: str, mode: Mode, confidence: Array, wrong: Array) -> None:
        self.name, self.mode, self._confidence, self._wrong = name, mode, confidence, wrong

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """`count` independent samples."""
        chosen = rng.integers(0, len(self._wrong), count)
        return self._confidence[chosen], self._wrong[chosen]

    def truth(self, threshold: float) -> Truth:
        """Counted over the whole pool."""
        covered = self._confidence >= threshold
        risk = float(self._wrong[covered].mean()) if covered.any() else 0.0
        return Truth(risk, float(covered.mean()))


def synthetic(alpha: float) -> list[Synthetic]:
    """An exit as it should be, one that errs where it is surest, and one that is nowhere quite safe."""
    top, often = 0.1, 1.5 * alpha
    return [
        Synthetic("the surer the safer", lambda u: 12 * alpha * u**2, lambda s: 4 * alpha * s**3),
        Synthetic(
            "wrong where surest",
            lambda u: np.where(u < top, often, 6 * alpha * u**2),
            lambda s: often * min(s, top) + 2 * alpha * max(0.0, s**3 - top**3),
        ),
        Synthetic("nowhere quite safe", lambda u: np.full_like(u, 1.02 * alpha), lambda s: 1.02 * alpha * s),
    ]


class Fashion:
    """The committed pair's exit over real images, as deployed: the head of the bundle at the bundle's temperature."""

    def __init__(self, bundle: Bundle, part: data.Labelled) -> None:
        self._exit, self._labels = _exit_of(bundle), part.labels.astype(np.int64)
        inputs = np.stack([bundle.manifest.preprocess.apply(image) for image in part.images[..., None]])
        cuts, self._logits = outputs.run_head(open_head(bundle), inputs)
        arrived = through(bundle.codec(bundle.manifest.points[0]), cuts).arrays
        self._cloud = outputs.run_pt2(bundle, TAIL, arrived).argmax(axis=1)

    def pools(self) -> list[Pool]:
        """Wrong as against the labels, and as against the cloud's answer at operating point 0."""
        confidence = softmax(self._logits, self._exit.temperature).max(axis=1)
        answers, name = self._logits.argmax(axis=1), "fashion_mnist"
        return [
            Pool(name, "labels", confidence, answers != self._labels),
            Pool(name, "agreement", confidence, answers != self._cloud),
        ]

    def row(self) -> dict[str, object]:
        """How well the exit's confidences are calibrated."""
        return {
            "population": "fashion_mnist",
            "images": len(self._labels),
            "exit_accuracy": float((self._logits.argmax(axis=1) == self._labels).mean()),
            "temperature": self._exit.temperature,
            "ece_before": ece(softmax(self._logits), self._labels),
            "ece_after": ece(softmax(self._logits, self._exit.temperature), self._labels),
        }


def real_images(folder: Path | None, *, quick: bool) -> data.Labelled:
    """The 10,000 test images in a folder or where Debian's package puts them, else the 1,000 that are committed.

    Raises ConfigError when a folder was given and does not hold them.
    """
    installed = data.DEFAULT_FOLDER if data.DEFAULT_FOLDER.is_dir() and not quick else None
    return read_part(folder or installed, quick=quick)


def _exit_of(bundle: Bundle) -> Exit:
    manifest = bundle.manifest
    if manifest.exit is None or manifest.points[0].part != "tail":
        msg = f"{bundle.path} has no exit, or no tail at its first operating point; give a --bundle with both"
        raise ConfigError(msg)
    return manifest.exit
