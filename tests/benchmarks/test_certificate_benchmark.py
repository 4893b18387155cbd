"""`python -m benchmarks certificate`, in a hurry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import certificate
from benchmarks.__main__ import main
from benchmarks.certificate import ALPHAS, METHODS, Promise, targets, trial
from benchmarks.populations import Pool, real_images, synthetic

ROOT = Path(__file__).parents[2]
ALPHA = 0.05


@pytest.mark.parametrize("population", synthetic(ALPHA), ids=lambda each: each.name)
@pytest.mark.parametrize("threshold", [0.995, 0.9, 0.5, 0.3])
def test_the_stated_truth_is_that_of_a_million_draws(population: certificate.Population, threshold: float) -> None:
    confidence, wrong = population.draw(np.random.default_rng(1), 1_000_000)
    covered = confidence >= threshold
    risk, coverage = population.truth(threshold)
    assert covered.mean() == pytest.approx(coverage, abs=0.002)
    assert wrong[covered].mean() == pytest.approx(risk, abs=0.004)


def test_a_pool_counts_itself() -> None:
    pool = Pool("four", "labels", np.array([0.9, 0.8, 0.8, 0.1]), np.array([False, True, False, True]))
    assert pool.truth(0.8) == pytest.approx((1 / 3, 3 / 4))
    assert pool.truth(0.95) == (0.0, 0.0)
    confidence, wrong = pool.draw(np.random.default_rng(0), 500)
    assert set(zip(confidence.tolist(), wrong.tolist(), strict=True)) == {
        (0.9, False),
        (0.8, True),
        (0.8, False),
        (0.1, True),
    }


def test_certified_keeps_the_promise_that_plain_breaks() -> None:
    for index, population in enumerate(synthetic(ALPHA)):
        rows = trial(population, Promise(ALPHA, 0.1), resamples=60, samples=800, seed=(3, index))
        by_method = {row["method"]: row for row in rows}
        assert list(by_method) == list(METHODS)
        assert by_method["certified"]["failed"] <= 0.1
        assert by_method["plain"]["failed"] > 0.3
        assert by_method["certified"]["coverage"] < by_method["plain"]["coverage"]


def test_one_start_proves_nothing_where_the_exit_errs_when_surest() -> None:
    rows = trial(synthetic(ALPHA)[1], Promise(ALPHA, 0.1), resamples=20, samples=4000, seed=(4,))
    answered = {row["method"]: row["answered"] for row in rows}
    assert answered["certified, one start"] < 0.2 < answered["certified"]


def test_targets_are_about_certified_thresholds_alone() -> None:
    common = {"population": "p", "mode": "labels", "alpha": 0.02}
    found = targets([{"images": 3}, *({**common, "method": name, "failed": 0.5} for name in METHODS)], delta=0.05)
    assert [(each.name, each.ok) for each in found] == [("P(error > 0.02), p, labels", False)]


def test_the_real_exit_has_a_row_for_each_mode_level_and_method(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["certificate", "--json", "--quick", "--resamples", "3", "--samples", "300"]) == 0
    report = json.loads(capsys.readouterr().out)
    about, *rows = report["rows"]
    assert about["images"] == 60
    assert 0.7 < about["exit_accuracy"] <= 1
    real = {(row["mode"], row["alpha"], row["method"]) for row in rows if row["population"] == "fashion_mnist"}
    assert real == {(mode, alpha, name) for mode in ("labels", "agreement") for alpha in ALPHAS for name in METHODS}
    assert report["targets"] == []


def test_the_committed_images_are_read_where_none_are_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("models.fashion_mnist.data.DEFAULT_FOLDER", tmp_path / "nowhere")
    assert len(real_images(None, quick=False).images) == 1000


@pytest.mark.parametrize(
    ("argv", "says"),
    [(["--data", "nowhere"], "install the Debian package"), (["--bundle", "nowhere"], "there is no bundle")],
)
def test_what_is_not_there_is_said(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["certificate", *argv]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--delta=0", "--delta=1", "--samples=0", "--resamples=-1"])
def test_numbers_that_make_no_sense_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["certificate", option])
    assert "is not" in capsys.readouterr().err
