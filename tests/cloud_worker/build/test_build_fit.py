"""`cloud-worker build --fit`: a bottleneck and a certified exit from samples alone, in a bundle that a node takes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from broker.exits import EXIT_BAD_INPUT
from cloud_worker.__main__ import main
from cloud_worker.build import verb_build
from edge_node.heads import open_head
from schemas.bundle_files import Bundle, open_bundle
from schemas.certificate import CERTIFICATE
from schemas.probability import softmax
from tests.cloud_worker.build.newcomer import CLASSES, build, write_images, write_models

COUNT = 100
MODEL = ("--model", "newcomer_nets:Colours", "--samples", "images", "--input-shape", "3,16,16", "--cut", "stem")
FIT = ("--fit", "fit", "--channels", "3", "--batch", "16", "--peak-lr", "0.1", "--no-leakage")
PROMISE = ("--alpha", "0.2", "--delta", "0.2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fitted")
    write_models(place)
    write_images(place / "images", COUNT)
    return place


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    done = build(folder, *MODEL, *FIT, *PROMISE, "--epochs", "4", "--out", "bundle", "--report", "report.html")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch ") == 4
    return done.stdout


@pytest.fixture
def built(folder: Path, printed: str) -> Bundle:
    assert printed
    return open_bundle(folder / "bundle")


@pytest.fixture
def here(folder: Path, printed: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert printed
    monkeypatch.chdir(folder)
    monkeypatch.setattr(verb_build.signal, "signal", lambda *_: None)
    return folder


def test_the_bundle_has_a_learnt_cut_and_a_certified_exit(built: Bundle) -> None:
    manifest = built.manifest
    built.verify()
    assert manifest.cut.shape == (3, 4, 4)
    assert manifest.exit is not None
    assert manifest.exit.certified
    assert CERTIFICATE in manifest.files
    assert (manifest.profile.exit_accuracy or 0) > 0.6
    assert manifest.profile.head_macs < manifest.profile.full_macs


def test_the_head_answers_as_it_was_tried(built: Bundle, printed: str) -> None:
    assert "exit: agreement" in printed
    assert "why there: it was named with --cut\n" in printed
    assert "certified against the true classes: at most 20.0% wrong among its sure answers, with 80%" in printed
    head = open_head(built, "numpy")
    assert built.manifest.exit is not None
    output = head.run(np.zeros((3, 16, 16), np.float32))
    assert output.cut.shape == (3, 4, 4)
    assert output.logits is not None
    assert softmax(output.logits[None], built.manifest.exit.temperature).shape == (1, len(CLASSES))


def test_the_report_lists_what_was_learnt_from(folder: Path, printed: str) -> None:
    assert printed
    text = (folder / "report.html").read_text()
    assert " to learn from</summary>" in text
    assert "not certified" not in text


def test_a_finished_fit_is_taken_as_it_is_and_gives_the_same_bundle(here: Path, built: Bundle) -> None:
    before = {path.name: path.read_bytes() for path in built.path.iterdir()}
    assert main(["build", *MODEL, *FIT, *PROMISE, "--out", "again"]) == 0
    assert {path.name: path.read_bytes() for path in (here / "again").iterdir()} == before


def test_without_enough_samples_for_the_promise_it_says_so_and_the_exit_stays(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", *MODEL, *FIT, "--alpha", "0.001", "--delta", "0.001", "--out", "doubtful"]) == 0
    assert "not certified (cannot certify: " in capsys.readouterr().out
    found = open_bundle(here / "doubtful").manifest
    assert found.exit is not None
    assert (found.exit.certified, found.exit.threshold) == (False, None)
    assert CERTIFICATE not in found.files


def test_samples_that_are_calibrated_on_are_not_learnt_from(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["build", *MODEL, "--fit", "other", "--fit-samples", "images", "--out", "refused"])
    assert code == EXIT_BAD_INPUT
    assert "--fit-samples: 0 samples are left that are not among --samples" in capsys.readouterr().err
    assert not (here / "other").exists()
    assert not (here / "refused").exists()


@pytest.mark.parametrize("options", [("--fit", "fit"), ("--fit", "begun", "--fit-start", "fit/fitted.pt")])
def test_a_fit_that_has_seen_what_would_certify_it_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    """With samples of its own to learn from, those that the earlier fit had learnt from would calibrate."""
    strangers = f"strangers-{options[1]}"
    write_images(here / strangers, 20, seed=3)
    learning = (*FIT[2:], *options, "--fit-samples", strangers)
    assert main(["build", *MODEL, *learning, "--out", "refused"]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "fitted.pt was learnt from " in said
    assert "take them out of --samples" in said
    assert not (here / "refused").exists()
    assert not (here / "begun").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--fit-samples", "images"), "--fit-samples goes with --fit"),
        (("--fit", "fit", "--fit-targets", "t.txt"), "--fit-targets goes with --fit-samples"),
        (("--fit", "newcomer_nets.py"), "is not the name of a folder"),
        ((*FIT, "--channels", "5"), "fit"),
        (("--fit", "fit", "--epochs", "0"), "'0' is not a whole number"),
        (("--alpha", "0.9"), "'0.9' is not a number"),
        (("--rates", "0.2,0.1"), "'0.2,0.1' is not 1 to 8 ascending numbers"),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], says: str
) -> None:
    assert main(["build", *MODEL, *options, "--out", "refused"]) == EXIT_BAD_INPUT
    said = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(said) == 1
    assert says in said[0]
    assert not (here / "refused").exists()


@pytest.mark.timeout(120)
def test_ctrl_c_keeps_the_epochs_and_the_next_call_goes_on(here: Path) -> None:
    argv = [sys.executable, "-m", "cloud_worker", "build", *MODEL, *FIT[2:], "--fit", "stopped", "--epochs", "3"]
    process = subprocess.Popen([*argv, "--out", "late"], cwd=here, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 1/3" in line:
            process.send_signal(signal.SIGINT)
            break
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not (here / "late").exists()
    done = build(here, *MODEL, *FIT[2:], "--fit", "stopped", "--epochs", "3", "--out", "late")
    assert done.returncode == 0, done.stderr
    assert "going on after epoch" in done.stderr
    assert "epoch 3/3" in done.stderr
    assert open_bundle(here / "late").manifest.exit is not None
