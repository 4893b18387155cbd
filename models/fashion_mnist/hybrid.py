"""The early exit at a threshold, and what the pair answers. NumPy only.

Logits are float (N, 10), labels int (N,). Intervals: Wilson 1927.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Ints = NDArray[np.integer]

Rule = Literal["cloud", "confident"]


class Hybrid(NamedTuple):
    """What the pair does at one threshold."""

    threshold: float
    accuracy: float
    shipped: float
    """Share of the samples whose activations travel."""


def accuracy(logits: Floats, labels: Ints) -> float:
    """Share of right answers."""
    return float((logits.argmax(axis=1) == labels).mean())


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share measured on n samples."""
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return centre - half, centre + half


def answers(exit_p: Floats, tail_p: Floats, threshold: float, rule: Rule) -> tuple[Ints, NDArray[np.bool_]]:
    """The pair's answers (N,) and which samples travel (N,).

    The exit answers when its confidence reaches the threshold. Of what travels, rule `cloud` takes the tail's answer,
    rule `confident` that of the more confident of exit and tail.
    """
    shipped = exit_p.max(axis=1) < threshold
    cloud = shipped if rule == "cloud" else shipped & (tail_p.max(axis=1) >= exit_p.max(axis=1))
    return np.where(cloud, tail_p.argmax(axis=1), exit_p.argmax(axis=1)), shipped


def hybrid(exit_p: Floats, tail_p: Floats, labels: Ints, threshold: float, rule: Rule = "cloud") -> Hybrid:
    """Accuracy and traffic of the pair at one threshold."""
    chosen, shipped = answers(exit_p, tail_p, threshold, rule)
    return Hybrid(threshold, float((chosen == labels).mean()), float(shipped.mean()))
