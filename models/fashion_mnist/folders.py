"""Write what `cloud-worker build` takes: samples that nothing was trained on, and those to learn from.

    python -m models.fashion_mnist.folders --out DIR [--data DIR]

DIR/samples/<label>.npy has the calibration part and DIR/training/<label>.npy the training part, each in a sub-folder
of its class; DIR/labels.txt the classes in the model's order. The validation part and the test images stay out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from models.fashion_mnist import data


def write(split: data.Split, out: Path) -> None:
    """uint8 (N, 28, 28, 1) for each class of each part. Raises OSError where they cannot be written."""
    for name, part in (("samples", split.calibration), ("training", split.train)):
        for label, word in enumerate(data.LABELS):
            folder = out / name / word
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / "images.npy", part.images[part.labels == label][..., None])
    (out / "labels.txt").write_text("\n".join(data.LABELS) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Read the training images, write the folders."""
    parser = argparse.ArgumentParser(prog="python -m models.fashion_mnist.folders", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that the folders are written to")
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder with the four IDX files")
    given = parser.parse_args(argv)
    write(data.read_split(given.data), given.out)
    print(f"{given.out}: samples, training, labels.txt")


if __name__ == "__main__":
    main()
