"""Write the committed sample of the real test set: its first 1,000 images, and ten PNGs to try by hand.

    python -m models.fashion_mnist.samples [--data DIR]

Running it again gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from models.fashion_mnist import data

HERE = Path(__file__).parent
COUNT = 1000


def write(test: data.Labelled, folder: Path) -> None:
    """folder/test/*.gz (IDX) and folder/samples/<label>_<name>.png: the first test image of each class."""
    (folder / "test").mkdir(parents=True, exist_ok=True)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    data.write_idx(folder / "test" / "images-idx3-ubyte.gz", test.images[:COUNT])
    data.write_idx(folder / "test" / "labels-idx1-ubyte.gz", test.labels[:COUNT])
    for label, name in enumerate(data.LABELS):
        first = int((test.labels == label).argmax())
        Image.fromarray(test.images[first]).save(folder / "samples" / f"{label}_{name}.png", optimize=True)


def main(argv: list[str] | None = None) -> None:
    """Read the whole test set, write the sample."""
    parser = argparse.ArgumentParser(prog="python -m models.fashion_mnist.samples", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder with the four IDX files")
    write(data.read_test(parser.parse_args(argv).data), HERE)


if __name__ == "__main__":
    main()
