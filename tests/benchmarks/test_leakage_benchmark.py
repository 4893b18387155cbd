"""`python -m benchmarks leakage`, in a hurry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.leakage import dealt, targets
from schemas.leakage import Leakage

ROOT = Path(__file__).parents[2]


def test_every_point_of_the_bundle_has_a_row_beside_the_cut_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["leakage", "--json", "--quick"]) == 0
    report = json.loads(capsys.readouterr().out)
    rows = {row["point"]: row for row in report["rows"]}
    assert list(rows) == [*(f"point {number}" for number in range(9)), "as float32"]
    assert {(row["samples"], row["held_out"]) for row in rows.values()} == {(42, 18)}
    assert rows["point 6"]["ssim"] == 1
    assert 0.9 < rows["point 8"]["ssim"] < 1
    assert all(row["ssim"] < 0.7 for row in rows.values() if row["part"] == "tail")
    assert set(Leakage.model_fields) <= set(rows["point 0"])
    assert report["targets"] == []


def test_the_committed_images_are_dealt_where_none_are_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("models.fashion_mnist.data.DEFAULT_FOLDER", tmp_path / "nowhere")
    images = dealt(None, quick=False)
    assert [part.shape for part in images] == [(700, 28, 28, 1), (300, 28, 28, 1)]


def test_targets_are_missed_where_a_cut_shows_all_or_less_than_the_mean_image() -> None:
    whole = {"part": "full", "config": {"format": "webp"}, "ssim": 0.9, "ssim_blind": 0.1}
    cuts = [{"part": "tail", "config": {}, "ssim": ssim, "ssim_blind": 0.1} for ssim in (1.0, 0.05)]
    assert [each.ok for each in targets([whole, *cuts])] == [False, False, False]


def test_data_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["leakage", "--data", "nowhere"]) == 2
    assert "install the Debian package" in capsys.readouterr().err
