"""What int8 heads take and lose beside float32 ones, on the two reference models, one thread.

The int8 head is calibrated on samples of its own; bytes on the wire, KL divergence and agreement are of other samples,
through the bundle's first operating point of the tail. Times are those of `edge-node profile` in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.children import BUNDLE, TEST_IMAGES
from benchmarks.report import Report, Target
from cloud_worker.build.codecs.rates import kl_nats
from cloud_worker.build.export.to_tflite import has_converter
from cloud_worker.build.export.to_tflite_int8 import MOST_SAMPLES, quantised
from cloud_worker.build.int8_trial import MOST_KL, MOST_LOST
from cloud_worker.programs import TorchProgram
from edge_node.idx import read_idx
from edge_node.tflite_head import TFLiteHead
from models.efficientnet_lite0 import photos
from models.efficientnet_lite0.samples import BUILD
from schemas.bundle import FULL, HEAD_INT8, HEAD_TFLITE, TAIL, Manifest
from schemas.bundle_files import Bundle, open_bundle
from schemas.device_times import HeadTime, parse_device_times
from schemas.errors import BundleError, ConfigError
from schemas.tensor import Array

_BATCH = 16
_QUICK = 16


class Case(NamedTuple):
    """A bundle with a TFLite head, and two sets of samples without one in common, as its manifest has them."""

    bundle: Bundle
    calibration: Array
    test: Array


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much."""
    parser.add_argument("--quick", action="store_true", help="the committed bundle alone, on a few images")


async def run(options: argparse.Namespace) -> Report:
    """Measure both. Raises ConfigError without litert-torch, and where there are no photos."""
    if not has_converter():
        msg = "litert-torch, which brings the quantiser, is not installed; pip install 'splitbus[build,bench]'"
        raise ConfigError(msg)
    report = Report("int8")
    with tempfile.TemporaryDirectory() as folder:
        for case in _cases(Path(folder), quick=options.quick):
            row = _row(case, Path(folder), seconds=0.1 if options.quick else 2.0)
            report.rows.append(row)
            report.targets += _targets(row)
    report.notes = [
        "kl_added is from the answers of the float32 head, the other KL and agreements from the whole model"
    ]
    return report


def _cases(folder: Path, *, quick: bool) -> Iterator[Case]:
    images = read_idx(TEST_IMAGES)[..., None]
    yield Case(open_bundle(BUNDLE), images[:MOST_SAMPLES], images[MOST_SAMPLES:][: _QUICK if quick else None])
    if quick:
        return
    crops, built = folder / "photos", folder / "lite0"
    for module, *arguments in (
        ("models.efficientnet_lite0.samples", "--out", str(crops)),
        ("cloud_worker", "build", *BUILD, "--samples", str(crops), "--no-leakage", "--out", str(built)),
    ):
        done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            msg = f"EfficientNet-Lite0 was not built: {''.join(done.stderr.splitlines()[-1:])}; see --quick"
            raise BundleError(msg)
    found = photos.photos(None)
    yield Case(open_bundle(built), photos.crops(found, "calibration"), photos.crops(found, "test"))


def _row(case: Case, folder: Path, seconds: float) -> dict[str, Any]:
    manifest = case.bundle.manifest
    models = {HEAD_TFLITE: case.bundle.read(HEAD_TFLITE)}
    models[HEAD_INT8] = quantised(models[HEAD_TFLITE], _prepared(manifest, case.calibration))
    inputs = _prepared(manifest, case.test)
    whole = _answers(case.bundle, FULL, inputs)
    sent = {name: _sent(case.bundle, _cuts(manifest, model, inputs)) for name, model in models.items()}
    logits = {name: _answers(case.bundle, TAIL, arrived) for name, (arrived, _) in sent.items()}
    row: dict[str, Any] = {"model": manifest.name, "calibration": len(case.calibration), "samples": len(inputs)}
    times = _times(models, folder / manifest.name, seconds)
    for name, kind in ((HEAD_TFLITE, "float32"), (HEAD_INT8, "int8")):
        row |= {
            f"{kind}_bytes": len(models[name]),
            f"{kind}_p50_ms": times[name].p50_ms,
            f"{kind}_payload": sent[name][1],
            f"{kind}_kl": kl_nats(whole, logits[name]),
            f"{kind}_agreement": float((logits[name].argmax(1) == whole.argmax(1)).double().mean()),
        }
    return row | {"kl_added": kl_nats(logits[HEAD_TFLITE], logits[HEAD_INT8])}


def _targets(row: dict[str, Any]) -> list[Target]:
    lost = row["float32_agreement"] - row["int8_agreement"]
    return [
        Target(f"{row['model']}: KL that int8 adds", row["kl_added"], "<=", MOST_KL),
        Target(f"{row['model']}: agreement that int8 loses", lost, "<=", MOST_LOST),
    ]


def _prepared(manifest: Manifest, samples: Array) -> Array:
    return np.stack([manifest.preprocess.apply(sample) for sample in samples])


def _cuts(manifest: Manifest, model: bytes, inputs: Array) -> Array:
    head = TFLiteHead(model, manifest)
    return np.stack([head.run(each).cut for each in inputs])


def _sent(bundle: Bundle, cuts: Array) -> tuple[Array, float]:
    """What arrives through the first point of the tail, and the mean payload."""
    point = next(each for each in bundle.manifest.points if each.part == "tail")
    codec = bundle.codecs()[point.id]
    payloads = [codec.encode(cut) for cut in cuts]
    return np.stack([codec.decode(each) for each in payloads]), float(np.mean([len(each) for each in payloads]))


def _answers(bundle: Bundle, file: str, inputs: Array) -> torch.Tensor:
    manifest = bundle.manifest
    spec = manifest.cut if file == TAIL else manifest.preprocess.output_spec(manifest.sample)
    program = TorchProgram(bundle.read(file), file, spec, labels=len(manifest.labels), max_batch=_BATCH)
    parts = [program.run(inputs[start : start + _BATCH]) for start in range(0, len(inputs), _BATCH)]
    return torch.from_numpy(np.concatenate(parts))


def _times(models: dict[str, bytes], folder: Path, seconds: float) -> dict[str, HeadTime]:
    folder.mkdir()
    for name, model in models.items():
        (folder / name).write_bytes(model)
    argv = [sys.executable, "-m", "edge_node", "profile", str(folder), "--seconds", str(seconds)]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode:
        msg = f"the heads were not timed: {done.stderr.decode(errors='replace')[-300:]}; run edge-node profile yourself"
        raise BundleError(msg)
    return {entry.file: entry for entry in parse_device_times(done.stdout).entries}
