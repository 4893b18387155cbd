"""What every head promises, on each runtime that is installed. Needs no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_node.heads import Head, open_head
from edge_node.numpy_head import NumpyHead
from edge_node.tflite_head import TFLiteHead, _quiet
from schemas.bundle import HEAD_INT8, HEAD_NUMPY, HEAD_TFLITE, Manifest
from schemas.errors import BundleError, ConfigError, DigestError, TensorError
from tests.edge_node.head_files import DATA, SMALL, TWINS, expected, manifest, write_bundle

NETS: dict[str, dict[str, Any]] = {"small": SMALL, "plain": SMALL, "twins": TWINS}
Opener = Callable[[str, Manifest], Head]


def open_tflite(net: str, fields: Manifest) -> Head:
    return TFLiteHead((DATA / f"{net}.tflite").read_bytes(), fields)


def open_numpy(net: str, fields: Manifest) -> Head:
    return NumpyHead((DATA / f"{net}.npz").read_bytes(), fields)


@pytest.fixture(params=[open_tflite, open_numpy], ids=["tflite", "numpy"])
def opener(request: pytest.FixtureRequest) -> Opener:
    chosen: Opener = request.param
    return chosen


def head_of(opener: Opener, net: str) -> Head:
    return opener(net, manifest(NETS[net], has_exit=net != "plain"))


def test_a_tflite_interpreter_is_installed_where_the_tests_run() -> None:
    assert open_tflite("small", manifest(SMALL, has_exit=True)).runtime in {"ai-edge-litert", "tflite-runtime"}


@pytest.mark.parametrize("net", NETS)
def test_a_head_computes_what_torch_computed(opener: Opener, net: str) -> None:
    inputs, cuts, logits = expected(net)
    head = head_of(opener, net)
    for index, sample in enumerate(inputs):
        output = head.run(sample)
        assert (output.cut.dtype, output.cut.shape) == (np.float32, cuts[index].shape)
        np.testing.assert_allclose(output.cut, cuts[index], atol=1e-5)
        if logits is None:
            assert output.logits is None
        else:
            assert output.logits is not None
            assert (output.logits.dtype, output.logits.shape) == (np.float32, logits[index].shape)
            np.testing.assert_allclose(output.logits, logits[index], atol=1e-5)


def test_a_head_says_what_runs_it(opener: Opener) -> None:
    assert head_of(opener, "small").runtime in {"ai-edge-litert", "tflite-runtime", "numpy"}


@pytest.mark.parametrize("net", NETS)
def test_outputs_belong_to_the_caller(opener: Opener, net: str) -> None:
    inputs, _, _ = expected(net)
    head = head_of(opener, net)
    first = head.run(inputs[0])
    kept = first.cut.copy()
    head.run(inputs[1])
    np.testing.assert_array_equal(first.cut, kept)
    first.cut[:] = np.nan
    np.testing.assert_array_equal(head.run(inputs[0]).cut, kept)


def test_inputs_are_left_alone_and_may_be_read_only_or_strided(opener: Opener) -> None:
    inputs, cuts, _ = expected("small")
    head = head_of(opener, "small")
    strided = np.repeat(inputs[0], 2, axis=2)[:, :, ::2]
    strided.flags.writeable = False
    np.testing.assert_allclose(head.run(strided).cut, cuts[0], atol=1e-5)
    np.testing.assert_array_equal(strided, inputs[0])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 1, 8, 8), np.float32),
        np.zeros((8, 8, 1), np.float32),
        np.zeros((1, 8, 7), np.float32),
        np.zeros((1, 8, 8), np.float64),
        np.zeros((1, 8, 8), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_an_input_of_another_shape_or_type_is_refused(opener: Opener, wrong: Any) -> None:
    head = head_of(opener, "small")
    with pytest.raises(TensorError, match=r"expected float32\[1, 8, 8\]"):
        head.run(wrong)


def test_logits_are_none_when_the_bundle_has_no_exit(opener: Opener) -> None:
    for net in ("small", "twins"):
        inputs, cuts, _ = expected(net)
        output = opener(net, manifest(NETS[net], has_exit=False)).run(inputs[0])
        assert output.logits is None
        np.testing.assert_allclose(output.cut, cuts[0], atol=1e-5)


@pytest.mark.parametrize(
    ("net", "fields"),
    [
        ("small", {"cut": {"dtype": "float32", "shape": (4, 4, 5)}}),
        ("small", {"labels": tuple("abc")}),
        ("small", {"sample": {"dtype": "uint8", "shape": (8, 9, 1)}}),
        ("small", {"sample": {"dtype": "uint8", "shape": (8, 8, 3)}}),
        ("twins", {"sample": {"dtype": "float32", "shape": (5,)}}),
        ("twins", {"labels": tuple("abcd")}),
        ("plain", {}),
    ],
)
def test_a_head_of_another_manifest_is_refused(opener: Opener, net: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"head (takes|gives) .*, the manifest (gives|names) .*; "):
        opener(net, manifest({**NETS[net], **fields}))


@pytest.mark.parametrize("kind", [TFLiteHead, NumpyHead])
@pytest.mark.parametrize("data", [b"", b"PK", b"TFL3", bytes(4096), b"\x1c\0\0\0TFL3" + bytes(64), b"\xff" * 64])
def test_bytes_that_are_no_model_are_refused(kind: Callable[[bytes, Manifest], Head], data: bytes) -> None:
    with pytest.raises(BundleError, match="again"):
        kind(data, manifest(SMALL))


def test_the_other_runtime_s_file_is_refused() -> None:
    for kind, file in ((TFLiteHead, "small.npz"), (NumpyHead, "small.tflite")):
        with pytest.raises(BundleError, match="again"):
            kind((DATA / file).read_bytes(), manifest(SMALL))


@pytest.mark.parametrize(("kind", "file"), [(TFLiteHead, "twins.tflite"), (NumpyHead, "twins.npz")])
def test_every_prefix_of_a_model_is_refused(kind: Callable[[bytes, Manifest], Head], file: str) -> None:
    data, fields = (DATA / file).read_bytes(), manifest(TWINS)
    for length in range(len(data)):
        with pytest.raises(BundleError):
            kind(data[:length], fields)


def test_a_cut_of_integers_is_refused() -> None:
    with pytest.raises(BundleError, match=r"gives int32\[1, 3\], float32\[1, 3\]"):
        open_tflite("integers", manifest(TWINS))


def test_without_an_interpreter_the_error_names_the_extra_and_the_other_runtime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"splitbus\[edge\].*--runtime numpy"):
        open_tflite("small", manifest(SMALL))


def test_opening_a_tflite_head_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    open_tflite("small", manifest(SMALL))
    assert capfd.readouterr() == ("", "")


def test_heads_opened_in_several_threads_leave_standard_error_in_place(capfd: pytest.CaptureFixture[str]) -> None:
    before = os.fstat(2)
    with ThreadPoolExecutor(4) as pool:
        heads = list(pool.map(lambda _: open_tflite("small", manifest(SMALL)), range(16)))
    assert len(heads) == 16
    assert os.path.samestat(os.fstat(2), before)
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_what_others_write_meanwhile_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with _quiet():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: of somebody else\n")
    assert capfd.readouterr().err == "ERROR: of somebody else\n"


def test_open_head_takes_tflite_first_and_numpy_when_asked_or_alone(tmp_path: Path) -> None:
    files = {HEAD_TFLITE: (DATA / "small.tflite").read_bytes(), HEAD_NUMPY: (DATA / "small.npz").read_bytes()}
    both = write_bundle(tmp_path / "both", files)
    assert open_head(both).runtime in {"ai-edge-litert", "tflite-runtime"}
    assert open_head(both, "numpy").runtime == "numpy"
    alone = write_bundle(tmp_path / "alone", {HEAD_NUMPY: files[HEAD_NUMPY]})
    assert open_head(alone).runtime == "numpy"
    with pytest.raises(ConfigError, match=HEAD_TFLITE):
        open_head(alone, "tflite")


def test_open_head_takes_the_int8_head_only_when_asked(tmp_path: Path) -> None:
    heads = {HEAD_TFLITE: "small.tflite", HEAD_INT8: "small.int8.tflite"}
    bundle = write_bundle(tmp_path / "bundle", {name: (DATA / file).read_bytes() for name, file in heads.items()})
    inputs, cuts, logits = expected("small")
    assert logits is not None
    found = [open_head(bundle, runtime).run(inputs[0]) for runtime in ("auto", "tflite", "int8")]
    np.testing.assert_array_equal(found[0].cut, found[1].cut)
    off = np.abs(found[2].cut - cuts[0]).max() / np.abs(cuts).max()
    assert 1e-4 < off < 0.05
    assert found[2].logits is not None
    assert np.abs(found[2].logits - logits[0]).max() < 0.05 * np.abs(logits).max()


def test_without_an_int8_head_open_head_says_what_is_there(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", {HEAD_TFLITE: (DATA / "small.tflite").read_bytes()})
    with pytest.raises(ConfigError, match=r"runtime int8 needs head\.int8\.tflite.*it has head\.tflite"):
        open_head(bundle, "int8")


@pytest.mark.parametrize(("runtime", "file"), [("tflite", HEAD_TFLITE), ("int8", HEAD_INT8), ("numpy", HEAD_NUMPY)])
def test_open_head_checks_the_digest_before_it_parses(tmp_path: Path, runtime: Any, file: str) -> None:
    heads = {HEAD_TFLITE, file}
    bundle = write_bundle(
        tmp_path / "bundle", {name: (DATA / name.replace("head", "small")).read_bytes() for name in heads}
    )
    damaged = bytearray((tmp_path / "bundle" / file).read_bytes())
    damaged[100] ^= 1
    (tmp_path / "bundle" / file).write_bytes(damaged)
    with pytest.raises(DigestError, match=file):
        open_head(bundle, runtime)
