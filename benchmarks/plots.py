"""The rate benchmark's rows as pictures: one a model, ours in blues, image files of the input in warm colours."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rate_seeds import MOST_BYTES
from schemas.errors import ConfigError

Rows = Sequence[dict[str, Any]]

_BLUES = ("#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b")
_FORMATS = {"jpeg": ("JPEG", "#e6a23c"), "webp": ("WebP", "#d9480f"), "avif": ("AVIF", "#8d1d3f")}
_GREY, _FAINT = "#555555", "#bbbbbb"
_SIZE = (9.6, 6.2)
_KL_SHOWN = (0.008, 1.6)
_BYTES_SHOWN = (260, 90_000)
_FEWEST = 1.2
_HEADLINE_KL, _HEADLINE_CUT = 0.05, 6
_BOLD, _PLAIN = {"fontsize": 10, "fontweight": "bold"}, {"fontsize": 8.5}
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8}


def require(path: Path) -> None:
    """Raise ConfigError when no PNG can be written to `path`: before the measuring, not after it."""
    if path.suffix.lower() != ".png" or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        msg = f"a plot cannot be written to {path}; name a .png file in a folder that is there and can be written"
        raise ConfigError(msg)
    try:
        import matplotlib.figure  # noqa: F401, PLC0415 - only plots need it
    except ImportError:
        msg = "a plot needs matplotlib; pip install 'splitbus[bench]', or leave --plot out"
        raise ConfigError(msg) from None


def draw(rows: Rows, path: Path) -> list[Path]:
    """Write a PNG for each model among the rows, `path` itself where there is one model; the files written."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    written = []
    for model in models:
        place = path if len(models) == 1 else path.with_stem(f"{path.stem}-{model}")
        mine = [row for row in rows if row["model"] == model]
        figure = _photos(mine) if any("at_kl" in row for row in mine) else _fashion(mine)
        figure.savefig(place, dpi=150)
        written.append(place)
    return written


def _canvas(title: str, saying: str, caption: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=_SIZE)
    axes = figure.add_axes((0.075, 0.15, 0.87, 0.70))
    figure.text(0.02, 0.955, title, fontsize=15, fontweight="bold", va="center")
    figure.text(0.02, 0.905, saying, fontsize=11, color=_GREY, va="center")
    figure.text(0.02, 0.035, caption, fontsize=8, color=_GREY, va="center")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xscale("log")
    axes.set_xlabel("bytes on the wire per sample, mean (log scale)")
    return figure, axes


def _photos(rows: Rows) -> Any:
    """Bytes against KL: each cut's transform, each format at every size, and what a KL of 0.05 takes in each."""
    at = [row for row in rows if row.get("at_kl") == _HEADLINE_KL]
    best = next((row for row in at if row["cut"] == _HEADLINE_CUT), at[-1])
    points = [row for row in rows if "kl" in row]
    figure, axes = _canvas(*_photos_words(points, best))
    axes.set_yscale("log")
    axes.set_ylabel("how far the answer is from the unsplit model's: KL, nats")
    for kl in sorted({row["at_kl"] for row in rows if "at_kl" in row}):
        axes.axhline(kl, color=_FAINT, linewidth=0.8, zorder=0)
        axes.text(1.0, kl, f" KL {kl:g}", transform=axes.get_yaxis_transform(), color=_GREY, fontsize=8, va="center")
    for format_ in _FORMATS:
        _draw_format(axes, [row for row in points if row.get("format") == format_], format_, best)
    cuts = sorted({row["cut"] for row in at})
    for cut, colour in zip(cuts, _BLUES[-len(cuts) :], strict=True):
        mine = [row for row in points if row["cut"] == cut and row["codec"] == "transform"]
        _draw_cut(axes, mine, colour, bold=cut == best["cut"])
    _draw_gap(axes, best)
    _draw_raw(axes, best)
    axes.set_ylim(*_KL_SHOWN)
    axes.set_xlim(*_BYTES_SHOWN)
    _label_thousands(axes, (500, 1000, 2000, 5000, 10_000, 20_000, 50_000))
    axes.set_yticks((0.01, 0.1, 1), ("0.01", "0.1", "1"))
    axes.minorticks_off()
    return figure


def _photos_words(points: Rows, best: dict[str, Any]) -> tuple[str, str, str]:
    share = next(row["macs_share"] for row in points if row["cut"] == best["cut"])
    title = f"After {100 * share:.0f} % of the network, a photo travels in {best['transform_bytes']:,.0f} bytes"
    times = ", ".join(f"{best[f'{each}_ratio']:.1f} as {name}" for each, (name, _) in _FORMATS.items())
    saying = f"for an answer as close to the unsplit model's, the photo takes times that: {times}"
    few, many = (pick(row["samples"] for row in points) for pick in (min, max))
    caption = (
        f"EfficientNet-Lite0, codec transform; {many} crops of photos that fitted nothing. Image files go into the "
        "unsplit model.\nThin lines: made smaller first, with more or less of the colour, and the rest of the quality "
        f"scale (some of it on {few} of the crops)."
    )
    return title, saying, caption


def _draw_cut(axes: Any, rows: Rows, colour: str, *, bold: bool) -> None:
    x, y = _series(rows, "kl")
    axes.plot(x, y, "o-", color=colour, linewidth=3.2 if bold else 1.8, markersize=6 if bold else 4, zorder=5)
    label = f"cut {rows[0]['cut']}\n{100 * rows[0]['macs_share']:.0f} % of MACs"
    if bold:  # beside the line, where no other cut's label is
        axes.text(x[0] * 0.97, y[0] * 0.92, label, color=colour, ha="right", va="top", **_BOLD)
    else:
        axes.text(x[0], y[0] * 1.08, label, color=colour, ha="center", va="bottom", zorder=4, bbox=_PAPER, **_PLAIN)


def _draw_format(axes: Any, rows: Rows, format_: str, best: dict[str, Any]) -> None:
    """A format at every size and chroma, the way that is best at the headline's KL drawn over the others."""
    colour = _FORMATS[format_][1]
    most = max(row["samples"] for row in rows)
    for way in {(row["side"], row["chroma"]) for row in rows}:
        mine = [row for row in rows if (row["side"], row["chroma"]) == way]
        axes.plot(*_series(mine, "kl"), color=colour, linewidth=0.7, alpha=0.55, zorder=2)
        if way == (best[f"{format_}_side"], best[f"{format_}_chroma"]):
            x, y = _series([row for row in mine if row["samples"] == most], "kl")
            axes.plot(x, y, "o-", color=colour, linewidth=2.2, markersize=3.5, zorder=3)


def _draw_gap(axes: Any, best: dict[str, Any]) -> None:
    """From our bytes to those of each format at the headline's KL, with name and ratio over each."""
    ends = {each: best[f"{each}_bytes"] for each in _FORMATS if np.isfinite(best[f"{each}_bytes"])}
    start = best["transform_bytes"]
    if not ends or not np.isfinite(start):
        return
    axes.hlines(_HEADLINE_KL, start, max(ends.values()), color="black", linewidth=1.4, zorder=6)
    for index, each in enumerate(sorted(ends, key=ends.__getitem__)):
        name, colour = _FORMATS[each]
        axes.plot([ends[each]], [_HEADLINE_KL], "o", color="black", markersize=5, zorder=7)
        text, height = f"{name} {best[f'{each}_ratio']:.1f}x", _HEADLINE_KL * (1.34 if index == 1 else 1.1)
        side = ("right", "center", "left")[index]
        axes.text(ends[each] * 1.02, height, text, color=colour, ha=side, va="bottom", zorder=8, bbox=_PAPER, **_BOLD)


def _draw_raw(axes: Any, best: dict[str, Any]) -> None:
    """Where the cut tensor itself would be, whose loss is below what the picture shows."""
    raw = best["float32_ratio"] * best["transform_bytes"]
    for size, name in ((raw, "float32"), (raw / best["float32_over_minmax_u8"], "min-max uint8")):
        axes.axvline(size, color=_FAINT, linewidth=1.0, linestyle=":", zorder=0)
        text = f"cut {best['cut']} as {name}: {size / best['transform_bytes']:.0f}x"
        axes.text(size * 0.98, _KL_SHOWN[1], text, rotation=90, ha="right", va="top", fontsize=8, color=_GREY)


def _fashion(rows: Rows) -> Any:
    """Bytes against accuracy: the tail at each point, hybrid, the exit that ships nothing, and image files."""
    points, best = [row for row in rows if "answer" in row], _best_pair(rows)
    figure, axes = _canvas(*_fashion_words(points, best))
    axes.set_ylabel("right answers, %")
    whole = max(row["accuracy"] for row in points if row["answer"] == "full" and row["kl"] == 0)
    alone = next(row["accuracy"] for row in points if row["answer"] == "exit")
    for accuracy, name, side in ((whole, "unsplit model", "bottom"), (alone, "exit alone, 0 bytes", "top")):
        axes.axhline(100 * accuracy, color=_FAINT, linewidth=1.0, zorder=0)
        axes.text(_FEWEST, 100 * accuracy, f" {name}: {100 * accuracy:.1f} %", color=_GREY, va=side, **_PLAIN)
    bottom = 100 * alone - 5
    for format_ in _FORMATS:
        _draw_files(axes, [row for row in points if row.get("format") == format_], format_, bottom + 0.4)
    for answer, colour in (("hybrid", _BLUES[2]), ("tail", _BLUES[-1])):
        _draw_answer(axes, [row for row in points if row["answer"] == answer], 100 * alone - 0.5, colour)
    if best:
        level = 100 * best["accuracy"]
        axes.hlines(level, best["bytes"], best["webp_bytes"], color="black", linewidth=1.4, zorder=6)
        text = f"{best['webp_ratio']:.1f}x"
        axes.text(best["webp_bytes"], level - 0.15, text, ha="right", va="top", zorder=8, bbox=_PAPER, **_BOLD)
    axes.set_xlim(_FEWEST, 1000)
    axes.set_ylim(bottom, 100 * whole + 1.2)
    _label_thousands(axes, (2, 5, 10, 20, 50, 100, 200, 500, 1000))
    return figure


def _best_pair(rows: Rows) -> dict[str, Any]:
    """The bundle's richest point of 64 bytes or fewer, as in its target, if WebP has an answer to it; else empty."""
    small = [row for row in rows if row.get("seed") == "bundle" and row["bytes"] <= MOST_BYTES]
    best = max(small, key=lambda row: row["bytes"], default={})
    return best if np.isfinite(best.get("webp_ratio", np.nan)) else {}


def _fashion_words(points: Rows, best: dict[str, Any]) -> tuple[str, str, str]:
    caption = (
        f"Fashion-MNIST, {max(row['samples'] for row in points):,} test images. Image files go into the unsplit model, "
        "whole or made smaller first (thin lines);\nWebP without the 20 bytes of its container."
    )
    if not best:
        return "Bytes against right answers", "no lossy WebP that was measured is as right as the tail", caption
    title = f"{best['bytes']:.0f} bytes from the head are answered {100 * best['accuracy']:.1f} % right"
    saying = (
        f"the image as lossy WebP needs {best['webp_bytes']:.0f} bytes for that, {best['webp_ratio']:.1f} times as many"
    )
    return title, saying, caption


def _draw_answer(axes: Any, rows: Rows, low: float, colour: str) -> None:
    """One way to answer: a line through the points of the pair's main codec, named below `low`; rings for others."""
    main = Counter(row["codec"] for row in rows).most_common(1)[0][0]
    x, y = _series([row for row in rows if row["codec"] == main], "accuracy")
    axes.plot(x, [100 * each for each in y], "o-", color=colour, linewidth=2.8, markersize=6, zorder=5)
    hybrid = rows[0]["answer"] == "hybrid"
    label = "hybrid: ships only\nwhat the exit doubts" if hybrid else "split: the tail\nanswers all"
    low = min(low, 100 * min(y) - 0.3)
    axes.text(float(np.exp(np.mean(np.log(x)))), low, label, color=colour, ha="center", va="top", zorder=6, **_BOLD)
    for row in rows:
        if row["codec"] != main and not hybrid:
            axes.plot(row["bytes"], 100 * row["accuracy"], "o", color=colour, fillstyle="none", markersize=7, zorder=5)
            name = f" {row['codec']}"
            axes.text(row["bytes"], 100 * row["accuracy"] + 0.15, name, color=colour, rotation=45, **_PLAIN)


def _draw_files(axes: Any, rows: Rows, format_: str, low: float) -> None:
    """A format at every size, named at the height `low`."""
    name, colour = _FORMATS[format_]
    largest = max(row["side"] for row in rows)
    for side in {row["side"] for row in rows}:
        x, y = _series([row for row in rows if row["side"] == side], "accuracy")
        wide = 2.2 if side == largest else 0.7
        axes.plot(x, [100 * each for each in y], color=colour, linewidth=wide, alpha=1.0 if wide > 1 else 0.5, zorder=3)
        if side == largest:
            place = float(np.interp(low, [100 * each for each in y], x))
            last = format_ == "avif"
            where = {"ha": "left" if last else "right", "va": "center"}
            axes.text(
                place * (1.05 if last else 0.96), low, name, color=colour, zorder=4, bbox=_PAPER, **where, **_BOLD
            )


def _series(rows: Rows, value: str) -> tuple[list[float], list[float]]:
    points = sorted((row["bytes"], row[value]) for row in rows)
    return [x for x, _ in points], [y for _, y in points]


def _label_thousands(axes: Any, ticks: Sequence[int]) -> None:
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
