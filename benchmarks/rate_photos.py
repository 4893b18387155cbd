"""EfficientNet-Lite0 on photos: every cut and codec beside the input's own image formats, at equal KL of the output."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.rate_curves import Curve, Floats, Ints, least_bytes, ratio, spread
from benchmarks.rate_cuts import NAME, TARGETS, Cut, CutPoints
from benchmarks.rate_heads import exported
from benchmarks.rate_net import Crops, Unsplit, load_crops
from benchmarks.rate_points import Measured, Reference, kl_curve, log_softmax, through
from benchmarks.rate_times import MOST_TIME, one_thread
from benchmarks.report import Report, Target
from benchmarks.rivals import LOSSY, Family, Grid, Rival, search
from models.efficientnet_lite0 import nets
from schemas.errors import ConfigError

SIDES = (224, 192, 160, 128, 112)
QUALITIES = {
    "jpeg": (10, 30, 60, 80, 90, 95, 98),
    "webp": (1, 20, 50, 75, 88, 94, 98),
    "avif": (25, 40, 55, 68, 78, 86, 94),
}
SCOUTS = 5
"""One crop in so many looks for the rivals' best sizes."""
QUICK_SIDES = (224, 160)
QUICK_QUALITIES = {"jpeg": (30, 80, 95), "webp": (20, 75, 94), "avif": (40, 68, 86)}
LEAST_RATIOS = {6: {"jpeg": 8.0, "webp": 7.5, "avif": 5.5}, 4: {"webp": 2.0}}
"""By cut: what a format must need, times our bytes, at every target KL; images made smaller are among the rivals."""
_FLOAT32_CUT, _FLOAT32_AT, _FLOAT32_LEAST = 6, 0.05, 40.0

Say = Callable[[str], None]


class Findings(NamedTuple):
    """All that was measured of this model."""

    cuts: list[CutPoints]
    families: dict[str, Family]
    png: list[Measured]
    photo_of: Ints


def measure(cuts: Sequence[int], crops: Crops, unsplit: Unsplit, say: Say, *, quick: bool) -> Findings:
    """Every cut, one after the other, then the rivals."""
    reference = Reference(log_softmax(unsplit.logits(crops.test)))
    say("heads as TFLite")
    heads = exported(cuts)
    found = []
    for cut in cuts:
        say(f"cut {cut}")
        found.append(Cut(unsplit, crops, reference, cut).measure_all(heads.get(cut)))
    sides, qualities = (QUICK_SIDES, QUICK_QUALITIES) if quick else (SIDES, QUALITIES)

    def measured(rival: Rival, step: int) -> Measured:
        say(f"{rival.format} at {rival.side}, quality {rival.quality}")
        arrived = through(rival.codec(nets.SAMPLE), crops.test[::step], unsplit.pool)
        logs = log_softmax(unsplit.logits(arrived.arrays))
        return reference.every(step).judge("input", rival.setting(), arrived.sizes, logs)

    families = {each: search(Grid(each, sides, qualities[each]), TARGETS, measured, SCOUTS) for each in LOSSY}
    png = [measured(Rival("png", side), SCOUTS) for side in sides]
    return Findings(found, families, png, crops.photo_of)


def rows(found: Findings) -> list[dict[str, Any]]:
    """Cuts and codecs, then the rivals, then what each format needs at each target KL."""
    points = [row for cut in found.cuts for row in cut.rows()]
    rival = {"model": NAME, "cut": -1, "macs_share": 0.0, "time_share": 0.0}
    every = [*found.png, *(point for family in found.families.values() for point in family.points())]
    return [*points, *({**rival, **point.row()} for point in every), *ratio_rows(found)]


def ratio_rows(found: Findings) -> list[dict[str, Any]]:
    """For each cut and target KL: our bytes, and what each format and each baseline needs for it, times that."""
    return [_ratio_row(found, cut, kl) for cut in found.cuts for kl in TARGETS]


def _ratio_row(found: Findings, cut: CutPoints, kl: float) -> dict[str, Any]:
    ours = kl_curve(cut.transform)
    mine = least_bytes([ours], kl)
    raw, baseline = cut.spec.nbytes, cut.ladder[0]
    row = {"model": NAME, "cut": cut.cut, "at_kl": kl, "transform_bytes": mine, "float32_ratio": raw / mine}
    row |= {"float32_over_minmax_u8": raw / float(baseline.sizes.mean()), "minmax_u8_kl": float(baseline.kl.mean())}
    for format_, family in found.families.items():
        row |= _against(format_, family, ours, kl, found.photo_of)
    return row


def _against(format_: str, family: Family, ours: Curve, kl: float, photo_of: Ints) -> dict[str, Any]:
    """A format's ratio at a KL, its 90 % interval over photos, and the way in which it is best."""
    curves = {way: kl_curve(points) for way, points in family.whole.items()}
    theirs = list(curves.values())

    def value(weights: Floats | None = None) -> float:
        return ratio(theirs, ours, kl, weights)

    low, high = spread(value, photo_of)
    way = min(curves, key=lambda each: curves[each].bytes_at(kl))
    columns = {"bytes": least_bytes(theirs, kl), **way._asdict()}
    columns |= {"ratio": value(), "ratio_low": low, "ratio_high": high}
    return {f"{format_}_{name}": each for name, each in columns.items()}


def targets(found: Findings) -> list[Target]:
    """The acceptance figures of the cuts that were measured."""
    at = {(row["cut"], row["at_kl"]): row for row in ratio_rows(found)}
    wanted = [
        Target(f"{format_} over transform, bytes, cut {cut}, KL {kl:g}", at[cut, kl][f"{format_}_ratio"], ">=", least)
        for cut, formats in LEAST_RATIOS.items()
        for format_, least in formats.items()
        for kl in TARGETS
        if (cut, kl) in at
    ]
    if (_FLOAT32_CUT, _FLOAT32_AT) in at:
        value = at[_FLOAT32_CUT, _FLOAT32_AT]["float32_ratio"]
        name = f"float32 over transform, bytes, cut {_FLOAT32_CUT}, KL {_FLOAT32_AT:g}"
        wanted.append(Target(name, value, ">=", _FLOAT32_LEAST))
    return wanted + [target for cut in found.cuts if cut.cut in LEAST_RATIOS for target in _time_targets(cut)]


def _time_targets(cut: CutPoints) -> list[Target]:
    took = cut.codec_times[len(cut.ladder) :]
    times = cut.times
    parts = {"encode": ("head", times.head_ms, times.runtime), "decode": ("tail", times.tail_ms, "torch")}
    return [
        Target(
            f"{what} over {part} time in {runtime}, cut {cut.cut}, slowest level",
            max(each[f"{what}_ms"] for each in took) / part_ms,
            "<=",
            MOST_TIME,
        )
        for what, (part, part_ms, runtime) in parts.items()
    ]


def add_to(report: Report, folder: Path | None, cuts: Sequence[int], say: Say, *, quick: bool) -> None:
    """Measure this model and put rows, targets and notes into the report; no targets when `quick`.

    Raises ConfigError when photos or weights are not there.
    """
    crops = load_crops(folder, quick=quick)
    try:
        net = nets.load_net()
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from None
    with one_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = measure(cuts, crops, Unsplit(net, pool), say, quick=quick)
    report.rows += rows(found)
    report.targets += [] if quick else targets(found)
    report.notes += notes(crops, quick=quick)


def notes(crops: Crops, *, quick: bool) -> list[str]:
    """What the rows stand on."""
    few = ["--quick: few crops, so there are no targets"] if quick else []
    return [
        f"{NAME}: {len(crops.test)} crops of {int(crops.photo_of.max()) + 1} test photos, 90 % intervals over photos",
        f"{NAME}: tables fitted on {len(crops.calibration)} crops of other photos",
        "times are medians of processor time on one thread; time_share is torch's, head_ms that of `runtime`",
        *few,
    ]
