"""Photos that nobody took: smooth colours with some noise, many-coloured as photos are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 240


def photo(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    smooth = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + rng.integers(-12, 13, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def write_photos(folder: Path, count: int) -> Path:
    for seed in range(count):
        photo(seed).save(folder / f"{seed}.png")
    return folder


def crops(count: int) -> np.ndarray:
    """uint8 (count, 224, 224, 3)."""
    return np.stack([np.asarray(photo(seed))[:224, :224] for seed in range(count)])
