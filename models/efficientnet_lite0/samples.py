"""Write the calibration crops of the photos as PNG files, for `cloud-worker build`; see README.md.

    python -m models.efficientnet_lite0.samples --out DIR [--photos DIR]

The photos are those of installed packages, or of a folder (see `photos`); those that the benchmarks test with are not
among them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from PIL import Image

from models.efficientnet_lite0 import photos
from schemas.errors import SplitbusError
from schemas.tensor import Array

BUILD: Final = (
    *("--model", "models.efficientnet_lite0.nets:load_net", "--name", "efficientnet_lite0", "--cut", "6"),
    *("--mean", "0.4980392156862745,0.4980392156862745,0.4980392156862745"),
    *("--std", "0.5019607843137255,0.5019607843137255,0.5019607843137255"),
    *("--rates", "0.02,0.05,0.1", "--baselines"),
)
"""What `cloud-worker build` is told of it in README.md, but for --samples and --out."""


def write(crops: Array, out: Path) -> None:
    """One file for each crop uint8 (N, 224, 224, 3), in order. Raises OSError where they cannot be written."""
    out.mkdir(parents=True, exist_ok=True)
    for number, crop in enumerate(crops):
        Image.fromarray(crop).save(out / f"{number:04}.png")


def main(argv: list[str] | None = None) -> int:
    """Write them and say how many. Exit code 2 for what is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m models.efficientnet_lite0.samples", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the crops")
    parser.add_argument("--photos", type=Path, help="folder of photos instead of those of installed packages")
    args = parser.parse_args(argv)
    try:
        crops = photos.crops(photos.photos(args.photos), "calibration")
        write(crops, args.out)
    except (SplitbusError, photos.PhotoError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    print(f"{len(crops)} crops of 224x224 in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
