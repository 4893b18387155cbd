"""One codec at one setting over a set of samples: what travelled, and what the output lost by it. NumPy only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.rate_curves import Curve, Floats
from schemas.codecs import Codec
from schemas.tensor import Array

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Measured:
    """What N samples cost at one setting, and how the answers differ from the unsplit model's."""

    codec: str
    setting: dict[str, Any]
    sizes: Floats
    """Payload of each sample (N,), bytes; 0 where nothing travels."""
    kl: Floats
    """KL(unsplit || this) of each sample's answer (N,), nats."""
    agrees: Bools
    """Whether the same class comes first (N,)."""
    right: Bools | None = None
    """Whether that class is the label (N,), where there are labels."""

    def row(self) -> dict[str, Any]:
        """Columns of a report; means where the name does not say otherwise."""
        p50, p95 = np.percentile(self.sizes, (50, 95))
        accuracy = {} if self.right is None else {"accuracy": float(self.right.mean())}
        return {
            "codec": self.codec,
            **self.setting,
            "samples": len(self.sizes),
            "bytes": float(self.sizes.mean()),
            "bytes_p50": float(p50),
            "bytes_p95": float(p95),
            "kl": float(self.kl.mean()),
            "agreement": float(self.agrees.mean()),
            **accuracy,
        }


class Reference:
    """What the unsplit model answers to N samples: the measure of everything else.

    `logs` are log-probabilities (N, classes), `labels` (N,) where they are known.
    """

    def __init__(self, logs: Floats, labels: Array | None = None) -> None:
        self.logs = logs
        self.labels = labels

    def judge(self, codec: str, setting: dict[str, Any], sizes: Floats, logs: Floats) -> Measured:
        """Answers with log-probabilities (N, classes), for which `sizes` (N,) travelled."""
        kl = (np.exp(self.logs) * (self.logs - logs)).sum(axis=1)
        chosen = logs.argmax(axis=1)
        right = None if self.labels is None else chosen == self.labels
        return Measured(codec, setting, sizes, kl, chosen == self.logs.argmax(axis=1), right)

    def every(self, step: int) -> Reference:
        """The same for each sample whose number is a multiple of `step`."""
        return Reference(self.logs[::step], None if self.labels is None else self.labels[::step])


class Arrived(NamedTuple):
    """What a codec made of N samples."""

    sizes: Floats
    """(N,), bytes."""
    arrays: Array
    """The samples as they come out of decoding, (N, ...)."""


def through(codec: Codec, samples: Iterable[Array], pool: Executor | None = None) -> Arrived:
    """Encode and decode every sample; in a pool of threads where the codec's library lets others run."""

    def one(sample: Array) -> tuple[int, Array]:
        payload = codec.encode(sample)
        return len(payload), codec.decode(payload)

    found = list(map(one, samples) if pool is None else pool.map(one, samples))
    return Arrived(np.array([size for size, _ in found], np.float64), np.stack([array for _, array in found]))


def log_softmax(logits: Array, temperature: float = 1.0) -> Floats:
    """Log-probabilities float64 (N, classes) of logits at a temperature."""
    scaled = logits.astype(np.float64) / temperature
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    logs: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def kl_curve(points: Sequence[Measured]) -> Curve:
    """Bytes against KL."""
    return Curve(np.stack([point.sizes for point in points]), np.stack([point.kl for point in points]))


def error_curve(points: Sequence[Measured]) -> Curve:
    """Bytes against the share of wrong answers; the points must have labels."""
    wrong = np.stack([~point.right for point in points if point.right is not None])
    return Curve(np.stack([point.sizes for point in points]), wrong.astype(np.float64))
