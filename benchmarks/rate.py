"""Bytes on the wire against fidelity: every cut and codec of a model beside image files of its input."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import plots
from benchmarks.children import BUNDLE
from benchmarks.report import Report

MODELS = ("fashion_mnist", "efficientnet_lite0")
_CUTS = (2, 4, 6, 8)
_QUICK_CUTS = (6,)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which model, on which data, and whether a plot is drawn."""
    parser.add_argument("--model", choices=(*MODELS, "all"), default="all")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it; with several models, one file each")
    parser.add_argument("--quick", action="store_true", help="few samples, one cut, no targets: does it all run?")
    photos = parser.add_argument_group("efficientnet_lite0")
    photos.add_argument("--photos", type=Path, metavar="DIR", help="a folder of photos instead of the installed ones")
    photos.add_argument("--cuts", type=build_cuts, help="last step of each head, for example 4,6 (default: 2,4,6,8)")
    fashion = parser.add_argument_group("fashion_mnist")
    fashion.add_argument("--data", type=Path, metavar="DIR", help="the IDX files: all 10,000 test images, not 1,000")
    fashion.add_argument("--bundle", type=Path, default=BUNDLE)
    fashion.add_argument(
        "--seeds", type=Path, nargs="+", default=(), metavar="BUNDLE", help="pairs that other seeds made, beside it"
    )


def build_cuts(text: str) -> tuple[int, ...]:
    """Numbers of steps from 0 to 16 out of `text`, ascending. Raises ArgumentTypeError when there are others."""
    parts = text.split(",")
    found = sorted({int(each) for each in parts if each.strip().isdecimal()})
    if len(found) != len(parts) or found[-1] > 16:
        msg = f"{text!r} is no list of cuts; write numbers from 0 to 16, for example 4,6"
        raise argparse.ArgumentTypeError(msg)
    return tuple(found)


async def run(options: argparse.Namespace) -> Report:
    """Measure the models one after the other; say on stderr what is being measured."""
    if options.plot:
        plots.require(options.plot)
    report, say = Report("rate"), _teller()
    if options.model in {"fashion_mnist", "all"}:
        from benchmarks import rate_fashion  # noqa: PLC0415 - loads torch

        rate_fashion.add_to(report, options.bundle, options.data, say, quick=options.quick, others=options.seeds)
    if options.model in {"efficientnet_lite0", "all"}:
        from benchmarks import rate_photos  # noqa: PLC0415

        cuts = options.cuts or (_QUICK_CUTS if options.quick else _CUTS)
        rate_photos.add_to(report, options.photos, cuts, say, quick=options.quick)
    if options.plot:
        try:
            for path in plots.draw(report.rows, options.plot):
                say(f"wrote {path}")
        except OSError as error:  # the figures are there, and are worth more than their picture
            report.notes.append(f"no plot: {error}")
    return report


def _teller() -> Callable[[str], None]:
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.0f} s  {text}\n")

    return say
