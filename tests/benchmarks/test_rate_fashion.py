"""`python -m benchmarks rate` on the committed bundle, in a hurry."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import rate_fashion, rate_times
from benchmarks.__main__ import main
from benchmarks.children import BUNDLE
from benchmarks.rate import build_cuts
from models.fashion_mnist import data
from schemas.bundle import FULL, MANIFEST, seal

ROOT = Path(__file__).parents[2]
QUICK = ("rate", "--json", "--quick", "--model", "fashion_mnist")


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_times, "_AT_LEAST_S", 0.0)
    monkeypatch.chdir(ROOT)


def report(capsys: pytest.CaptureFixture[str], argv: Sequence[str]) -> dict[str, Any]:
    assert main(argv) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.timeout(120)
def test_every_answer_of_the_bundle_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    rows = report(capsys, QUICK)["rows"]
    answers = [row for row in rows if "answer" in row]
    assert {row["samples"] for row in answers} == {60}
    alone = next(row for row in answers if row["answer"] == "exit")
    assert (alone["bytes"], alone["bytes_p95"]) == (0, 0)
    tails, hybrids = ([row for row in answers if row["answer"] == each] for each in ("tail", "hybrid"))
    assert len(tails) == len(hybrids) > 0
    for tail, hybrid in zip(tails, hybrids, strict=True):
        assert 0 < hybrid["bytes"] < tail["bytes"]
    assert tails[0]["kl"] < alone["kl"]
    lossless = [row for row in answers if row.get("format") in {"png", "webp"} and row["quality"] is None]
    assert all(row["kl"] == 0 and row["agreement"] == 1 for row in lossless if row["side"] == 28)
    assert {row["container_bytes_left_out"] for row in answers if row.get("format") == "webp"} == {20}
    assert [row["seed"] for row in rows if "webp_ratio" in row] == ["bundle"] * len(tails)


@pytest.mark.timeout(120)
def test_bundles_of_other_seeds_have_rows_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    shutil.copytree(BUNDLE, other)
    rows = report(capsys, (*QUICK, "--seeds", str(other)))["rows"]
    seeds = [row for row in rows if "webp_ratio" in row]
    assert [row.pop("seed") for row in seeds] == ["bundle"] * (len(seeds) // 2) + [str(other)] * (len(seeds) // 2)
    assert seeds[: len(seeds) // 2] == seeds[len(seeds) // 2 :]


def test_a_seed_from_another_unsplit_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    shutil.copytree(BUNDLE, other)
    with (other / FULL).open("ab") as file:
        file.write(b"another")
    altered = (other / FULL).read_bytes()
    fields = json.loads((other / MANIFEST).read_text())
    fields["files"][FULL] = {"size": len(altered), "sha256": hashlib.sha256(altered).hexdigest()}
    (other / MANIFEST).write_text(seal(fields).model_dump_json())
    assert main([*QUICK, "--seeds", str(other)]) == 2
    assert "another unsplit model" in capsys.readouterr().err


def test_the_committed_thousand_are_read_and_a_folder_of_ten_thousand(tmp_path: Path) -> None:
    assert rate_fashion.read_part(None, quick=False).images.shape == (1000, 28, 28)
    data.write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", np.zeros((10_000, 28, 28), np.uint8))
    data.write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.zeros(10_000, np.uint8))
    assert rate_fashion.read_part(tmp_path, quick=False).images.shape == (10_000, 28, 28)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--model", "fashion_mnist", "--data", "nowhere"], "install the Debian package"),
        (["--model", "fashion_mnist", "--bundle", "nowhere"], "there is no bundle"),
        (["--model", "efficientnet_lite0", "--photos", "nowhere"], "no photos"),
    ],
)
def test_what_is_not_there_is_said(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rate", *argv]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "a", "4,,6", "17", "-1"])
def test_cuts_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SystemExit):
        main(["rate", "--cuts", text])


def test_cuts_are_sorted() -> None:
    assert build_cuts("6,4") == (4, 6)


@pytest.mark.timeout(120)
def test_a_plot_is_a_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed; make test installs it")
    place = tmp_path / "fashion.png"
    report(capsys, (*QUICK, "--plot", str(place)))
    assert place.read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_matplotlib_is_refused_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*QUICK, "--plot", "x.png"]) == 2
    assert "pip install 'splitbus[bench]'" in capsys.readouterr().err
