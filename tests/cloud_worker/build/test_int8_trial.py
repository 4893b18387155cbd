"""When an int8 head is good enough, and a whole build with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from broker.exits import EXIT_BAD_INPUT
from cloud_worker.__main__ import main
from cloud_worker.build import verb_build
from cloud_worker.build.export import heads
from cloud_worker.build.export.agree import MismatchError
from cloud_worker.build.int8_trial import MOST_KL, compare_int8
from edge_node.heads import open_head
from schemas.bundle import HEAD_INT8, HEAD_TFLITE, OperatingPoint
from schemas.bundle_files import open_bundle
from schemas.errors import BundleError
from tests.cloud_worker.build.newcomer import build, write_images, write_models

POINT = OperatingPoint(id=3, part="tail", codec="minmax_u8")
OPTIONS = ("--model", "newcomer_nets:Colours", "--samples", "images", "--input-shape", "3,16,16", "--cut", "stem")


def logits(count: int = 200, *, turned: int = 0) -> Tensor:
    """(count, 2), sure of class 0 by a little; the first `turned` are as sure of class 1."""
    found = torch.tensor([[0.1, 0.0]]).repeat(count, 1)
    found[:turned] = torch.tensor([0.0, 0.1])
    return found


def test_a_head_that_answers_alike_passes_with_its_figures() -> None:
    tried = compare_int8(POINT, logits(), logits(turned=1), logits(turned=5))
    assert tried.point is POINT
    assert (tried.agreement, tried.float_agreement) == (0.975, 0.995)
    assert 0 < tried.kl_nats < MOST_KL


@pytest.mark.parametrize(
    ("count", "turned", "passes"), [(200, 4, True), (200, 5, False), (10, 1, True), (10, 2, False)]
)
def test_two_points_may_be_lost_or_one_sample(count: int, turned: int, passes: bool) -> None:  # noqa: FBT001
    whole = logits(count)
    if passes:
        assert compare_int8(POINT, whole, whole, logits(count, turned=turned)).agreement == 1 - turned / count
    else:
        with pytest.raises(MismatchError, match=r"head\.int8\.tflite adds KL .*--int8"):
            compare_int8(POINT, whole, whole, logits(count, turned=turned))


def test_a_head_that_answers_better_than_the_float_one_passes() -> None:
    assert compare_int8(POINT, logits(), logits(turned=100), logits()).agreement == 1.0


def test_a_divergence_without_another_class_is_refused() -> None:
    with pytest.raises(BundleError, match=r"adds KL 0\.2\d+ and answers 100\.0%"):
        compare_int8(POINT, logits(), logits(), logits() * 15)


def test_without_the_converter_it_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(heads, "has_converter", lambda: False)
    monkeypatch.setattr(verb_build.signal, "signal", lambda *_: None)
    missing = ["--model", "no.such:model", "--samples", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(["build", *missing, "--int8"]) == EXIT_BAD_INPUT
    assert "--int8: litert-torch is not installed here" in capsys.readouterr().err


def test_a_bundle_with_an_int8_head(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer", reason="the extra `build` is not installed")
    write_models(tmp_path)
    write_images(tmp_path / "images")
    done = build(tmp_path, *OPTIONS, "--out", "bundle", "--int8")
    assert done.returncode == 0, done.stderr
    assert "head.int8.tflite at point 0: KL 0." in done.stdout
    bundle = open_bundle(tmp_path / "bundle")
    sample = np.zeros((3, 16, 16), np.float32)
    cuts = [open_head(bundle, runtime).run(sample).cut for runtime in ("tflite", "int8")]
    assert 0 < np.abs(cuts[0] - cuts[1]).max() < 0.05 * np.abs(cuts[0]).max()
    assert bundle.manifest.files[HEAD_INT8].sha256 != bundle.manifest.files[HEAD_TFLITE].sha256
