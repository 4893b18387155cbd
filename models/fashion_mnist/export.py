"""Write the bundle of a finished training run.

    python -m models.fashion_mnist.export [--weights DIR] [--out DIR] [--data DIR]

Everything is written into a folder beside the target and checked there, then renamed: the target is the old bundle or
the whole new one. Needs litert-torch and an interpreter (ai-edge-litert).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cloud_worker.build.bundle_folder import beside, entries
from cloud_worker.build.codecs import fit_bottleneck, fit_transform
from cloud_worker.build.codecs.fisher import gradients
from cloud_worker.build.export import freeze
from cloud_worker.build.export.to_numpy import export_numpy
from cloud_worker.build.export.to_tflite import export_tflite
from models.fashion_mnist import check, data
from models.fashion_mnist.nets import IMAGE_SHAPE
from models.fashion_mnist.runs import Run, load
from models.fashion_mnist.train import outputs
from schemas.bundle import FULL, HEAD_NUMPY, HEAD_TFLITE, MANIFEST, TABLES, TAIL, Manifest, seal
from schemas.codecs import Tables, open_codec
from schemas.codecs.tables import pack_tables
from schemas.preprocess import Preprocess
from schemas.probability import softmax
from schemas.tensor import TensorSpec

if TYPE_CHECKING:
    from schemas.tensor import Array

VERSION = "1.1.0"
LEVELS = (-6, -4, -1)
"""Of codec transform: about 62, 46 and 26 bytes. Chosen on the validation part; see README.md."""
STEP = 1.43
"""Of codec bottleneck, for a cut of unit variance."""
FITTED, DRAWS = 2500, 4
"""Calibration images that the tables are fitted on, and labels drawn for each."""
LEVEL_TABLES = "bottleneck.tables"
CHUNK = 500
"""Samples that a network sees at once."""
SAMPLE = TensorSpec(dtype="uint8", shape=(28, 28, 1))
PREPROCESS = Preprocess(mean=(data.MEAN,), std=(data.STD,))


def write_files(run: Run, folder: Path) -> None:
    """The four files of the pair."""
    bottleneck = run.pair.bottleneck
    image, cut = torch.zeros(1, *IMAGE_SHAPE), torch.zeros(1, bottleneck.channels, 7, 7)
    head = freeze.folded(run.pair.head)
    (folder / HEAD_TFLITE).write_bytes(export_tflite(head, image))
    (folder / HEAD_NUMPY).write_bytes(export_numpy(head, image))
    freeze.write_pt2(freeze.folded(run.pair.tail), cut, folder / TAIL)
    freeze.write_pt2(freeze.folded(run.full), image, folder / FULL)


@torch.inference_mode()
def cuts(run: Run, part: data.Labelled) -> Array:
    """Unquantised cut tensors float32 (N, channels, 7, 7) of a part."""
    return torch.cat([run.pair.head(batch)[0] for batch in data.batches(part.images)]).numpy()


def codec_tables(run: Run, part: data.Labelled) -> dict[str, Tables]:
    """File of the bundle -> tables of codecs transform and bottleneck, fitted on the first FITTED images of a part."""
    tensors = torch.from_numpy(cuts(run, data.Labelled(part.images[:FITTED], part.labels[:FITTED])))
    tail = freeze.folded(run.pair.tail)
    return {
        TABLES: fit_transform.fit(tensors, gradients(tail, tensors, DRAWS)),
        LEVEL_TABLES: fit_bottleneck.fit(tensors.numpy(), np.full((1, cut_spec(run).shape[0]), STEP, np.float32)),
    }


def operating_points(run: Run, part: data.Labelled, tables: dict[str, Tables]) -> list[dict[str, Any]]:
    """The cut, best first: three rates of codec transform, its integers alone, the baselines; then the image."""
    bottleneck, spec = run.pair.bottleneck, cut_spec(run)
    tensors, images = cuts(run, part), part.images[..., None]
    levels = {"bits": bottleneck.bits, "scale": [bottleneck.scale], "zero": [bottleneck.zero]}

    def point(which: str, codec_id: str, config: dict[str, Any], file: str | None = None) -> dict[str, Any]:
        found = open_codec(codec_id, spec if which == "tail" else SAMPLE, config, tables[file] if file else None)
        sizes = [len(found.encode(array)) for array in (tensors if which == "tail" else images)]
        mean = round(float(np.mean(sizes)), 2)
        return {"part": which, "codec": codec_id, "config": config, "tables": file, "mean_bytes": mean}

    rows = (
        *(point("tail", "transform", {"level": level}, TABLES) for level in LEVELS),
        point("tail", "bottleneck", {"rate": 0}, LEVEL_TABLES),
        point("tail", "affine", levels),
        point("tail", "minmax_u8", {}),
        point("full", "input", {"format": "webp"}),
        point("full", "input", {"format": "webp", "quality": 75}),
    )
    return [{"id": index, **row} for index, row in enumerate(rows)]


@torch.inference_mode()
def split_accuracy(run: Run, part: data.Labelled, point: dict[str, Any], tables: dict[str, Tables]) -> float:
    """Accuracy of the tail on a part that travels at an operating point."""
    codec = open_codec(point["codec"], cut_spec(run), point["config"], tables[point["tables"]])
    arrived = np.stack([codec.decode(codec.encode(tensor)) for tensor in cuts(run, part)])
    logits = torch.cat([run.pair.tail(chunk) for chunk in torch.split(torch.from_numpy(arrived), CHUNK)])
    return round(float((logits.argmax(dim=1).numpy() == part.labels).mean()), 4)


def cut_spec(run: Run) -> TensorSpec:
    """The cut as the manifest states it."""
    return TensorSpec(dtype="float32", shape=(run.pair.bottleneck.channels, 7, 7))


def fields(run: Run, split: data.Split, files: dict[str, dict[str, Any]], tables: dict[str, Tables]) -> dict[str, Any]:
    """The manifest but for its interface digest. Every calibrated number comes from the calibration part."""
    found = outputs(run.full, run.pair, split.calibration)
    temperature, threshold = run.report["temperature"], run.report["threshold"]
    sure = softmax(found.exit, temperature["exit"]).max(axis=1) >= threshold
    validation, macs = run.report["validation"], run.report["macs"]
    points = operating_points(run, split.calibration, tables)
    return {
        "name": "fashion_mnist",
        "edge_version": VERSION,
        "cloud_version": VERSION,
        "sample": SAMPLE.model_dump(),
        "preprocess": PREPROCESS.model_dump(),
        "labels": data.LABELS,
        "cut": cut_spec(run).model_dump(),
        "points": points,
        "exit": {"temperature": temperature["exit"], "threshold": threshold, "coverage": round(float(sure.mean()), 4)},
        "tail_temperature": temperature["tail"],
        "full_temperature": temperature["full"],
        "profile": {
            "head_macs": macs["head"],
            "tail_macs": macs["tail"],
            "full_macs": macs["full"],
            "exit_accuracy": validation["exit"],
            "split_accuracy": split_accuracy(run, split.validation, points[0], tables),
            "full_accuracy": validation["full"],
        },
        "files": files,
        "pairing": pairing(run, points),
    }


def pairing(run: Run, points: list[dict[str, Any]]) -> str:
    """Digest of the weights of every part that may answer: head, tail, and the unsplit model where a point uses it."""
    parts: dict[str, nn.Module] = {"head": run.pair.head, "tail": run.pair.tail}
    if any(point["part"] == "full" for point in points):
        parts["full"] = run.full
    return freeze.weights_digest(**parts)


def export(run: Run, split: data.Split, target: Path) -> Manifest:
    """Build, check and put in place.

    Raises MismatchError, and leaves the target alone, when a file answers otherwise than its module.
    """
    with beside(target) as temporary:
        write_files(run, temporary)
        tables = codec_tables(run, split.calibration)
        for name, content in tables.items():
            (temporary / name).write_bytes(pack_tables(content))
        manifest = seal(fields(run, split, entries(temporary), tables))
        (temporary / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        check.files_agree(run, split.calibration.images[:65], temporary)
    return manifest


def main(argv: list[str] | None = None) -> None:
    """Export and print what was written."""
    parser = argparse.ArgumentParser(prog="python -m models.fashion_mnist.export", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder with the four IDX files")
    parser.add_argument(
        "--weights", type=Path, default=Path("models/fashion_mnist/weights"), help="where the training wrote"
    )
    parser.add_argument("--out", type=Path, default=Path("models/fashion_mnist/bundle"))
    args = parser.parse_args(argv)
    manifest = export(load(args.weights), data.read_split(args.data), args.out)
    for name, entry in manifest.files.items():
        print(f"{name:12} {entry.size:9,} bytes  {entry.sha256[:16]}")
    for point in manifest.points:
        print(f"point {point.id}: {point.part} through {point.codec}, {point.mean_bytes} bytes")
    print(f"interface {manifest.interface[:16]}")


if __name__ == "__main__":
    main()
