"""The rival: the image itself as lossy WebP, also made smaller first, answered by the unsplit model.

    python -m models.fashion_mnist.webp [--data DIR] [--weights DIR] [--part held-out|test] [--sizes N ...]

Bytes are those of the compressed frame: the RIFF header and the chunk's, 20 bytes that a codec could leave out, are
not counted. Held-out is calibration and validation together.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image

from models.fashion_mnist import calibrate, data
from models.fashion_mnist.nets import Full
from models.fashion_mnist.runs import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTAINER = 20
"""Bytes of the RIFF header (12) and of the chunk's header (8)."""
METHOD = 6
"""The encoder's slowest and best."""
SIDE = 28
SIZES = (28, 20, 16)
QUALITIES = (0, 10, 20, 30, 50, 70, 75, 80, 85, 90)


class Rival(NamedTuple):
    """One way to send the image."""

    side: int
    quality: int
    mean_bytes: float
    accuracy: float


def through_webp(image: data.Bytes, side: int, quality: int) -> tuple[data.Bytes, int]:
    """What arrives of an image uint8 (28, 28), resampled to side x side on the way, and the bytes that it took."""
    picture = Image.fromarray(image)
    small = picture if side == SIDE else picture.resize((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=quality, method=METHOD)
    size = len(file.getvalue()) - CONTAINER
    arrived = Image.open(file).convert("L")
    whole = arrived if side == SIDE else arrived.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(whole), size


def measure(full: Full, part: data.Labelled, side: int, quality: int) -> Rival:
    """Accuracy of the unsplit model on images that went through WebP, and their mean bytes."""
    found = [through_webp(image, side, quality) for image in part.images]
    images = np.stack([image for image, _ in found])
    with torch.inference_mode():
        logits = torch.cat([full(batch) for batch in data.batches(images)]).numpy()
    size = float(np.mean([size for _, size in found]))
    return Rival(side, quality, size, calibrate.accuracy(logits, part.labels))


def bytes_at(rivals: Sequence[Rival], accuracy: float) -> float | None:
    """Bytes that the best rivals need for an accuracy, between neighbours linearly; None when none is as accurate."""
    frontier: list[Rival] = []
    for rival in sorted(rivals, key=lambda one: one.mean_bytes):
        if not frontier or rival.accuracy > frontier[-1].accuracy:
            frontier.append(rival)
    accuracies, sizes = [one.accuracy for one in frontier], [one.mean_bytes for one in frontier]
    if accuracy > accuracies[-1]:
        return None
    return float(np.interp(accuracy, accuracies, sizes))


def main(argv: list[str] | None = None) -> None:
    """Print the curve as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m models.fashion_mnist.webp", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder with the four IDX files")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with full.pt")
    parser.add_argument("--part", choices=("held-out", "test"), default="held-out")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    args = parser.parse_args(argv)
    part = data.read_test(args.data) if args.part == "test" else data.read_held_out(args.data)
    full = Full()
    full.load_state_dict(torch.load(args.weights / "full.pt", weights_only=True))
    full.eval()
    print("| side | quality | bytes | accuracy |\n|---|---|---|---|")
    for side in args.sizes:
        for quality in QUALITIES:
            found = measure(full, part, side, quality)
            line = f"| {side} | {quality} | {found.mean_bytes:.1f} | {100 * found.accuracy:.2f} % |"
            print(line, flush=True)


if __name__ == "__main__":
    main()
