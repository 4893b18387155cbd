"""`cloud-worker build` as a newcomer runs it: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from broker.exits import EXIT_BAD_INPUT
from cloud_worker.__main__ import main
from cloud_worker.build import make, verb_build, writing
from cloud_worker.build.cut.cuts import Graph, cuts
from cloud_worker.build.export import heads
from cloud_worker.build.halves import own_halves
from cloud_worker.build.parts import pairing
from schemas.bundle_files import Bundle, open_bundle
from tests.cloud_worker.build.newcomer import CLASSES, signals, write_images, write_models
from tests.cloud_worker.build.newcomer import build as run_build

IMAGES = ("--model", "newcomer_nets:Colours", "--samples", "images", "--input-shape", "3,16,16", "--cut", "stem")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and samples, and one bundle built by the command in a process."""
    place = tmp_path_factory.mktemp("newcomer")
    write_models(place)
    write_images(place / "images")
    (place / "signals").mkdir()
    np.save(place / "signals" / "all.npy", signals())
    return place


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    """What the command printed for the image net, into `folder / "bundle"`."""
    done = run_build(folder, *IMAGES, "--out", "bundle", "--mean", "0.5,0.5,0.5", "--report", "report.html")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def built(folder: Path, printed: str) -> Bundle:
    assert printed
    return open_bundle(folder / "bundle")


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The process of the tests in the newcomer's folder, without its handler of SIGTERM."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(verb_build.signal, "signal", lambda *_: None)
    for name in [each for each in os.environ if each.startswith("SPLITBUS_")]:
        monkeypatch.delenv(name)
    return folder


def refused(capsys: pytest.CaptureFixture[str], *options: str | Path) -> str:
    """The one line that says why; nothing is written."""
    out = Path("refused")
    code = main(["build", *map(str, options), "--out", str(out)])
    said = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert code == EXIT_BAD_INPUT
    assert len(said) == 1
    assert not out.exists()
    assert not list(Path().glob(".refused*"))
    return said[0].partition("error: ")[2]


def test_it_says_what_was_chosen_what_it_is_worth_and_how_to_run_it(printed: str) -> None:
    assert "after stem: float32[8, 8, 8] crosses" in printed
    assert "as the unsplit model answers in 95% of the held-out samples or more: the cut takes" in printed
    assert "cloud-worker run --bundle bundle" in printed
    assert "edge-node run --bundle bundle" in printed


def test_the_bundle_holds_what_it_needs(built: Bundle) -> None:
    manifest = built.manifest
    built.verify()
    assert manifest.labels == CLASSES
    assert (manifest.name, manifest.line, manifest.exit) == ("colours", "1.0", None)
    assert manifest.preprocess.mean == (0.5, 0.5, 0.5)
    tails = [point for point in manifest.points if point.part == "tail"]
    assert [point.codec for point in tails] == ["transform"] * 3 + ["minmax_u8"]
    assert [point.codec for point in manifest.points if point.part == "full"] == ["input"] * 3
    assert manifest.profile.full_macs == manifest.profile.head_macs + manifest.profile.tail_macs > 0
    assert (manifest.profile.full_accuracy or 0) > 0.7
    assert manifest.profile.split_accuracy is not None


def test_the_report_lists_the_split(folder: Path, printed: str) -> None:
    text = (folder / "report.html").read_text()
    assert printed
    assert "to calibrate on" in text
    assert all(f"{name}/{number}.png" in text for name in CLASSES for number in range(20))


def test_the_same_again_gives_the_same_bytes_and_replaces_the_bundle(built: Bundle, here: Path) -> None:
    before = {path.name: path.read_bytes() for path in built.path.iterdir()}
    assert main(["build", *IMAGES, "--mean", "0.5,0.5,0.5", "--out", "bundle"]) == 0
    assert {path.name: path.read_bytes() for path in (here / "bundle").iterdir()} == before
    assert not list(here.glob(".bundle*"))


def test_another_cut_of_the_same_shape_is_another_pair(here: Path) -> None:
    model = write_models(here).Colours().eval()
    graph = Graph.trace(model, torch.zeros(1, 3, 16, 16))
    same = [cut for cut in cuts(graph) if cut.name.startswith("stem")]
    assert len({cut.spec for cut in same}) == 1 < len(same)
    assert len({pairing(model, graph, cut, own_halves(graph, cut)) for cut in same}) == len(same)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--model", "newcomer_nets"), "is not PACKAGE.MODULE:NAME"),
        (("--model", "no_such_nets:Net"), "no module is called no_such_nets"),
        (("--model", "newcomer_nets:Colors"), "newcomer_nets has no Colors; it has Colours"),
        (("--model", "newcomer_nets:number"), "is a int; name a torch module"),
        (("--model", "newcomer_nets:failing"), "calling it fails (RuntimeError: no such luck)"),
        (("--model", "newcomer_nets:leaving"), "calling it fails (SystemExit: 3)"),
        (("--model", "newcomer_nets:shapeless"), "return logits (batch, classes)"),
        (("--model", "newcomer_nets:Named"), "the model returns dict for one sample; return logits"),
        (("--model", "newcomer_nets:Halved"), "the model returns float16[1, 3] for one sample; return logits"),
        (("--model", "newcomer_nets:Endless"), ".png is not finite; look at the model"),
        (("--weights", "images/red/0.png"), "is no file of weights (it holds more than tensors)"),
        (("--weights", "nowhere.pt"), "nowhere.pt cannot be read"),
        (("--samples", "nowhere"), "there is no folder at nowhere"),
        (("--input-shape", "3,16"), "is an image, the model takes [3, 16]"),
        (("--input-shape", "1,16,16"), "the model does not take samples of float32[1, 16, 16]"),
        (("--input-shape", "3x16"), "write it as in 3,224,224"),
        (("--mean", "0.5,0.5"), "mean and std take 1 or 3 values"),
        (("--preprocess", "identity"), "preprocess identity takes float32"),
        (("--cut", "stm"), "'stm' is no cut of this model; it has stem"),
        (("--labels", "newcomer_nets.py"), "classes, the model has 3 outputs"),
        (("--targets", "newcomer_nets.py"), "there are 60 samples"),
        (("--report", "nowhere/report.html"), "there is no folder nowhere"),
        (("--profile", "nowhere/profile.json"), "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_is_written(
    here: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, str], says: str
) -> None:
    assert here.is_dir()
    given = dict(zip(IMAGES[::2], IMAGES[1::2], strict=True))
    given[options[0]] = options[1]
    assert says in refused(capsys, *(part for pair in given.items() for part in pair))


@pytest.mark.parametrize("model", ["single", "mishes"])
def test_a_model_without_a_cut_to_measure_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(heads, "has_converter", lambda: False)
    assert here.is_dir()
    said = refused(capsys, "--model", f"newcomer_nets:{model}", *IMAGES[2:-2])
    assert "name one with --cut: 0 (768 values, 0% of the MACs)" in said


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("broken.png", b"\x89PNG\r\n\x1a\n and no more", "broken.png is not a whole image"),
        ("broken.npy", b"\x93NUMPY", "holds images"),
        (".hidden.png", b"", ""),
    ],
)
def test_a_broken_file_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, says: str
) -> None:
    place = here / "images" / "red" / name
    place.write_bytes(content)
    try:
        said = refused(capsys, *IMAGES[:-1], "nowhere")
    finally:
        place.unlink()
    assert (says or "is no cut of this model") in said


def test_too_few_samples_are_counted(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.is_dir()
    write_images(tmp_path / "few", 2)
    assert "there are 6 different samples" in refused(capsys, *IMAGES[:3], tmp_path / "few", *IMAGES[4:])


def test_of_several_outputs_the_first_is_built(here: Path) -> None:
    assert main(["build", "--model", "newcomer_nets:Twofold", *IMAGES[2:], "--no-leakage", "--out", "first"]) == 0
    assert (here / "first" / "full.pt2").exists()


def test_weights_are_read_and_must_fit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_models(here).Colours()
    torch.save({"stem.0.bias": torch.zeros(8)}, here / "short.pt")
    assert "they do not fit the model" in refused(capsys, *IMAGES, "--weights", "short.pt")
    torch.save(model.state_dict(), here / "same.pt")
    assert main(["build", *IMAGES, "--weights", "same.pt", "--out", "weighed"]) == 0


def test_a_full_disk_leaves_the_old_bundle_as_it_was(
    built: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in built.path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_pt2", full)
    assert main(["build", *IMAGES, "--out", "bundle"]) == EXIT_BAD_INPUT
    assert "No space left on device; make room" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in built.path.iterdir()} == before
    assert not list(here.glob(".bundle*"))


def test_ctrl_c_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(make, "try_bundle", stopped)
    assert main(["build", *IMAGES, "--out", "stopped"]) == verb_build.EXIT_STOPPED
    assert "no bundle is half-written" in capsys.readouterr().err
    assert not list(here.glob("*stopped*"))


def test_a_file_that_answers_otherwise_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = writing.write_pt2

    def wrong(module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
        changed = torch.nn.Sequential(module, torch.nn.Tanh()).eval()
        real(changed if path.name == "tail.pt2" else module, example, path)

    monkeypatch.setattr(writing, "write_pt2", wrong)
    assert "tail.pt2 is off by" in refused(capsys, *IMAGES)
    assert here.is_dir()


def test_a_limit_on_file_sizes_is_survived(folder: Path) -> None:
    """As a full disk would: the kernel refuses to write on, also to torch's own writer."""
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))\n"
        "from cloud_worker.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = run_build(folder, *IMAGES, "--out", "limited", run=code)
    assert done.returncode == EXIT_BAD_INPUT, done.stderr
    assert [line for line in done.stderr.splitlines() if "error: nothing can be written" in line], done.stderr
    assert not list(folder.glob("*limited*"))


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("torch", "torch is not installed here; pip install 'splitbus[build]'"),
        ("PIL", "Pillow is not installed here, which reads images; pip install 'splitbus[build]'"),
        ("rich", ""),
    ],
)
def test_what_is_not_installed_is_said_in_one_line_and_rich_is_not_needed(
    folder: Path, missing: str, says: str
) -> None:
    code = (
        "import sys\n"
        f"sys.modules[{missing!r}] = sys.modules['litert_torch'] = None\n"
        "from cloud_worker.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = run_build(folder, *IMAGES, "--no-leakage", "--out", f"without-{missing}", run=code)
    assert done.returncode == (EXIT_BAD_INPUT if says else 0), done.stderr
    assert says in done.stderr.splitlines()[-1]
    assert (folder / f"without-{missing}").exists() == (not says)
