"""From logits to probabilities: the one softmax of both halves' calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.tensor import Array


def softmax(logits: Array, temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities of logits over temperature, along the last axis; finite logits give finite float64."""
    scaled = logits.astype(np.float64) / temperature
    powers: NDArray[np.float64] = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    chances: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return chances
