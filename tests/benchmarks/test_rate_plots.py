"""The pictures of the rate benchmark: their words are computed from the rows."""

from __future__ import annotations

import math
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import plots

with_matplotlib = pytest.mark.skipif(find_spec("matplotlib") is None, reason="the extra `bench` is not installed")
FORMATS = {"jpeg": 9000.0, "webp": 8000.0, "avif": 6000.0}


def cut_rows(cut: int, size: float) -> list[dict[str, Any]]:
    same = {"model": "efficientnet_lite0", "cut": cut, "macs_share": cut / 20, "samples": 40}
    points = [{**same, "codec": "transform", "bytes": size * f, "kl": 0.05 / f**2} for f in (0.5, 1.0, 2.0)]
    ratios = {f"{each}_ratio": need / size for each, need in FORMATS.items()}
    needs = {f"{each}_bytes": need for each, need in FORMATS.items()}
    needs |= {f"{each}_side": 224 for each in FORMATS} | {f"{each}_chroma": None for each in FORMATS}
    raw = {"transform_bytes": size, "float32_ratio": 40.0, "float32_over_minmax_u8": 4.0}
    return [*points, {"model": "efficientnet_lite0", "cut": cut, "at_kl": 0.05, **raw, **ratios, **needs}]


def photo_rows(*cuts: int) -> list[dict[str, Any]]:
    files = [
        {
            "format": name,
            "side": side,
            "chroma": None,
            "quality": 50,
            "bytes": need * f,
            "kl": 0.05 / f**2,
            "samples": samples,
        }
        for name, need in FORMATS.items()
        for side, samples in ((224, 40), (160, 8))
        for f in (0.5, 2.0)
    ]
    theirs = [{"model": "efficientnet_lite0", "cut": -1, "codec": "input", "macs_share": 0.0, **row} for row in files]
    return [row for cut in cuts for row in cut_rows(cut, 12_000 / cut)] + theirs


def fashion_rows(ratio: float) -> list[dict[str, Any]]:
    same = {"model": "fashion_mnist", "samples": 1000}
    answers = [
        {"answer": "exit", "codec": "none", "bytes": 0.0, "accuracy": 0.92, "kl": 0.1},
        {"answer": "full", "codec": "input", "format": "png", "side": 28, "bytes": 500.0, "accuracy": 0.94, "kl": 0.0},
    ]
    for answer, share in (("tail", 1.0), ("hybrid", 0.2)):
        for codec, size in (("bottleneck", 30.0), ("bottleneck", 60.0), ("minmax_u8", 400.0)):
            answers.append({"answer": answer, "codec": codec, "bytes": share * size, "accuracy": 0.935, "kl": 0.02})
    for name, need in FORMATS.items():
        for side in (28, 16):
            for f in (1.0, 2.0):
                file = {"format": name, "side": side, "bytes": f * need / 40, "accuracy": 0.8 + 0.06 * f, "kl": 0.1 / f}
                answers.append({"answer": "full", "codec": "input", **file})
    seeds = [
        {
            "seed": "bundle",
            "point": index,
            "bytes": size,
            "accuracy": 0.935,
            "webp_bytes": ratio * size,
            "webp_ratio": ratio,
        }
        for index, size in enumerate((30.0, 60.0, 400.0))
    ]
    return [{**same, **row} for row in (*answers, *seeds)]


def words(rows: list[dict[str, Any]], tmp_path: Path) -> str:
    """The texts of the only picture."""
    drawn = plots._photos(rows) if any("at_kl" in row for row in rows) else plots._fashion(rows)
    drawn.savefig(tmp_path / "one.png")
    return " ".join(text.get_text() for text in drawn.texts) + " ".join(t.get_text() for t in drawn.axes[0].texts)


@with_matplotlib
def test_the_title_says_what_was_found_at_the_headline_cut(tmp_path: Path) -> None:
    found = words(photo_rows(4, 6), tmp_path)
    assert "After 30 % of the network, a photo travels in 2,000 bytes" in found
    assert "4.5 as JPEG, 4.0 as WebP, 3.0 as AVIF" in found
    assert "40 crops" in found
    assert "WebP 4.0x" in found


@with_matplotlib
def test_without_the_headline_cut_the_deepest_is_told_of(tmp_path: Path) -> None:
    assert "After 40 % of the network, a photo travels in 1,500 bytes" in words(photo_rows(4, 8), tmp_path)


@with_matplotlib
def test_a_ratio_that_was_not_measured_leaves_no_arrow(tmp_path: Path) -> None:
    rows = photo_rows(6)
    for row in rows:
        if "at_kl" in row:
            row |= {"webp_bytes": math.nan, "webp_ratio": math.nan}
    found = words(rows, tmp_path)
    assert "JPEG 4.5x" in found
    assert "WebP nanx" not in found


@with_matplotlib
def test_the_richest_point_within_the_cap_makes_the_title(tmp_path: Path) -> None:
    found = words(fashion_rows(5.0), tmp_path)
    assert "60 bytes from the head are answered 93.5 % right" in found
    assert "needs 300 bytes for that, 5.0 times as many" in found


@with_matplotlib
def test_a_pair_that_no_webp_matches_is_said(tmp_path: Path) -> None:
    assert "no lossy WebP that was measured" in words(fashion_rows(math.nan), tmp_path)


@with_matplotlib
def test_several_models_get_a_file_each(tmp_path: Path) -> None:
    written = plots.draw([*photo_rows(6), *fashion_rows(5.0)], tmp_path / "rate.png")
    assert [path.name for path in written] == ["rate-efficientnet_lite0.png", "rate-fashion_mnist.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_without_matplotlib_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(plots.ConfigError, match="pip install 'splitbus"):
        plots.require(Path("rate.png"))


@pytest.mark.parametrize("path", ["nowhere/rate.png", "rate.svg", "rate"])
def test_a_place_where_no_png_can_be_written_is_refused_before_measuring(path: str) -> None:
    with pytest.raises(plots.ConfigError, match="a plot cannot be written to"):
        plots.require(Path(path))
