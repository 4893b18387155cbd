"""What every operating point of the Fashion-MNIST bundle shows of the image, at least: by attackers of two sizes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.children import BUNDLE
from benchmarks.rate_fashion import read_part
from benchmarks.report import Report, Target
from cloud_worker.build.point_leakage import MOST, Dealt, point_leakage
from edge_node.heads import open_head
from models.fashion_mnist import data, outputs
from schemas.bundle import OperatingPoint
from schemas.bundle_files import Bundle, open_bundle
from schemas.codecs import Codec, open_codec
from schemas.errors import ConfigError
from schemas.tensor import Array

_FITTED = (MOST[0], 5_000)
"""What a build takes, and all that the calibration part has."""
_HELD_OUT = 2_000
_SHARE = 0.7


class Shipped(NamedTuple):
    """A codec and what it encodes."""

    what: str
    part: str
    codec: Codec
    config: dict[str, Any]
    mean_bytes: float | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which bundle, on which images."""
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--data", type=Path, metavar="DIR", help="the IDX files, where they are not installed")
    parser.add_argument("--quick", action="store_true", help="few images, no targets: does it all run?")


async def run(options: argparse.Namespace) -> Report:
    """Heads run once over all images; then every point by each attacker."""
    bundle = open_bundle(options.bundle)
    images = dealt(options.data, quick=options.quick)
    counts = [len(part) for part in images]
    sys.stderr.write(f"running the head over {counts[0]} and {counts[1]} images\n")
    cuts = Dealt(*(_cuts(bundle, part) for part in images))
    report = Report("leakage", rows=list(rows(bundle, cuts, images)))
    report.targets = [] if options.quick else targets(report.rows)
    report.notes = [
        f"attackers fitted to at most {counts[0]} images, figures of {counts[1]} others",
        "a lower bound: a linear inverter with a ridge, or the payload as it is; another attacker may get more",
        "blind: the mean image; as float32: the cut as the head gives it, in no codec of the bundle",
    ]
    return report


def dealt(folder: Path | None, *, quick: bool) -> Dealt:
    """Calibration and 2,000 test images uint8 (N, 28, 28, 1) of the installed set or a folder; else of the 1,000.

    Raises ConfigError when a folder was given and does not hold them.
    """
    found = folder or (data.DEFAULT_FOLDER if data.DEFAULT_FOLDER.is_dir() else None)
    if found is None or quick:
        images = read_part(None, quick=quick).images[..., None]
        kept = round(_SHARE * len(images))
        return Dealt(images[:kept], images[kept:])
    try:
        known = data.read_split(found).calibration
    except data.DataError as error:
        raise ConfigError(str(error)) from None
    return Dealt(known.images[..., None], read_part(found, quick=False).images[:_HELD_OUT, ..., None])


def rows(bundle: Bundle, cuts: Dealt, images: Dealt) -> Iterator[dict[str, Any]]:
    """One a point and attacker: the bundle's points in order, then the cut as it is."""
    codecs, spec = bundle.codecs(), bundle.manifest.cut
    shipped = [_of_point(point, codecs[point.id]) for point in bundle.manifest.points]
    as_it_is = {"format": "zstd"}
    shipped.append(Shipped("as float32", "tail", open_codec("input", spec, as_it_is), as_it_is, 4.0 * spec.elements))
    for each in shipped:
        sys.stderr.write(f"{each.what}\n")
        for count in sorted({min(count, len(images.calibration)) for count in _FITTED}):
            tensors = cuts if each.part == "tail" else images
            found = point_leakage(each.codec, tensors, images, most=(count, _HELD_OUT))
            assert found is not None
            yield {
                "point": each.what,
                "part": each.part,
                "codec": each.codec.id,
                "config": each.config,
                "mean_bytes": each.mean_bytes,
                **found.model_dump(),
            }


def targets(found: list[dict[str, Any]]) -> list[Target]:
    """The lossless image leaks all; every cut leaks less than it, and more than nothing."""
    whole = [row["ssim"] for row in found if row["part"] == "full" and row["config"] == {"format": "webp"}]
    cuts = [row for row in found if row["part"] == "tail"]
    gains = [row["ssim"] - row["ssim_blind"] for row in cuts]
    return [
        Target("SSIM of the lossless input", min(whole, default=float("nan")), ">=", 1.0),
        Target("highest SSIM of a cut", max(row["ssim"] for row in cuts), "<", 1.0),
        Target("least gain of an attacker over the mean image, SSIM", min(gains), ">=", 0.0),
    ]


def _of_point(point: OperatingPoint, codec: Codec) -> Shipped:
    return Shipped(f"point {point.id}", point.part, codec, point.config, point.mean_bytes)


def _cuts(bundle: Bundle, images: Array) -> Array:
    inputs = np.stack([bundle.manifest.preprocess.apply(image) for image in images])
    found: Array = outputs.run_head(open_head(bundle), inputs)[0]
    return found
