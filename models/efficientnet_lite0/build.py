"""Write the bundle of EfficientNet-Lite0, cut after its first 14x14 block, with tables fitted on photos.

    python -m models.efficientnet_lite0.build --out DIR [--photos DIR] [--weights FILE]

Everything is written into a folder beside the target, then renamed. Needs litert-torch, and photos (see `photos`).
There is no exit: every answer is the cloud's. The class names are the numbers of ImageNet's classes, as the weights
have them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cloud_worker.build.bundle_folder import beside, entries
from cloud_worker.build.codecs.fisher import gradients
from cloud_worker.build.codecs.fit_transform import fit
from cloud_worker.build.export.agree import MismatchError, largest_share_off
from cloud_worker.build.export.freeze import folded, weights_digest, write_pt2
from cloud_worker.build.export.to_numpy import export_numpy
from cloud_worker.build.export.to_tflite import export_tflite
from edge_node.heads import open_head
from models.efficientnet_lite0 import nets, photos
from schemas.bundle import FULL, HEAD_NUMPY, HEAD_TFLITE, MANIFEST, TABLES, TAIL, Manifest, seal
from schemas.bundle_files import open_bundle
from schemas.codecs import Tables, open_codec
from schemas.codecs.tables import pack_tables
from schemas.errors import SplitbusError
from schemas.tensor import Array, TensorSpec

VERSION = "1.0.0"
LAST_STEP = 6
"""Of the net's steps in the head: 32.6 % of the multiply-accumulates, a cut of 80 x 14 x 14."""
LEVELS = (-2, 0, 2)
INPUTS: tuple[dict[str, Any], ...] = ({"format": "webp", "quality": 92}, {"format": "avif", "quality": 78})
_DRAWS = 8
_CHECKED, _MOST_OFF = 3, 1e-3
_BATCH = 16


def build(target: Path, crops: Array, weights: Path | None) -> Manifest:
    """Build from calibration crops uint8 (N, 224, 224, 3) and put in place; a bundle that was there is replaced whole.

    Raises ConfigError without litert-torch, BundleError when it cannot convert the head, or converts it wrongly.
    """
    net = nets.load_net(weights)
    head, tail = folded(net[: LAST_STEP + 1]), folded(net[LAST_STEP + 1 :])
    image = torch.zeros(1, 3, nets.SIDE, nets.SIDE)
    in_tflite = export_tflite(head, image)
    cuts = _cuts(head, crops)
    tables = fit(cuts, gradients(tail, cuts, _DRAWS))
    with beside(target) as temporary:
        (temporary / HEAD_TFLITE).write_bytes(in_tflite)
        (temporary / HEAD_NUMPY).write_bytes(export_numpy(head, image))
        (temporary / TABLES).write_bytes(pack_tables(tables))
        write_pt2(tail, cuts[:1], temporary / TAIL)
        write_pt2(folded(net), image, temporary / FULL)
        points = _points(cuts.numpy(), crops, tables)
        manifest = seal(
            _fields(net, points, TensorSpec(dtype="float32", shape=tuple(cuts.shape[1:])), entries(temporary))
        )
        (temporary / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        _check_heads(temporary, crops[:_CHECKED], cuts[:_CHECKED].numpy())
    return manifest


def _check_heads(folder: Path, crops: Array, cuts: Array) -> None:
    """Raise MismatchError when a head as it is deployed answers otherwise than the module."""
    bundle = open_bundle(folder)
    for name, head in ((HEAD_TFLITE, open_head(bundle, "tflite")), (HEAD_NUMPY, open_head(bundle, "numpy"))):
        found = np.stack([head.run(nets.PREPROCESS.apply(crop)).cut for crop in crops])
        off = largest_share_off(found, cuts)
        if not off <= _MOST_OFF:
            msg = f"{name} is off by {off:.2g} of the largest activation; use another release of what exported it"
            raise MismatchError(msg)


@torch.inference_mode()
def _cuts(head: nn.Module, crops: Array) -> Tensor:
    """float32 (N, C, H, W)."""
    inputs = torch.from_numpy(np.stack([nets.PREPROCESS.apply(crop) for crop in crops]))
    return torch.cat([head(part) for part in torch.split(inputs, _BATCH)]).clone()


def _points(cuts: Array, crops: Array, tables: Tables) -> list[dict[str, Any]]:
    """Three rates of the cut and the baseline, then the image, lossy."""
    spec = TensorSpec(dtype="float32", shape=cuts.shape[1:])
    kinds = (
        *(("tail", "transform", {"level": level}, TABLES) for level in LEVELS),
        ("tail", "minmax_u8", {}, None),
        *(("full", "input", config, None) for config in INPUTS),
    )
    rows = []
    for index, (part, codec_id, config, file) in enumerate(kinds):
        codec = open_codec(codec_id, spec if part == "tail" else nets.SAMPLE, config, tables if file else None)
        sizes = [len(codec.encode(array)) for array in (cuts if part == "tail" else crops[::4])]
        mean = round(float(np.mean(sizes)), 2)
        row = {"id": index, "part": part, "codec": codec_id, "config": config, "tables": file, "mean_bytes": mean}
        rows.append(row)
    return rows


def _fields(
    net: nn.Sequential, points: list[dict[str, Any]], cut: TensorSpec, files: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The manifest but for its interface digest."""
    macs = nets.step_macs(net)
    return {
        "name": "efficientnet_lite0",
        "edge_version": VERSION,
        "cloud_version": VERSION,
        "sample": nets.SAMPLE.model_dump(),
        "preprocess": nets.PREPROCESS.model_dump(),
        "labels": tuple(str(label) for label in range(nets.CLASSES)),
        "cut": cut.model_dump(),
        "points": points,
        "profile": {
            "head_macs": sum(macs[: LAST_STEP + 1]),
            "tail_macs": sum(macs[LAST_STEP + 1 :]),
            "full_macs": sum(macs),
        },
        "files": files,
        "pairing": weights_digest(full=net),
    }


def main(argv: list[str] | None = None) -> int:
    """Build and print what was written. Exit code 2 for what is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m models.efficientnet_lite0.build", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--photos", type=Path, help="folder of photos instead of those of installed packages")
    parser.add_argument("--weights", type=Path, help="state dict instead of the installed package's")
    args = parser.parse_args(argv)
    try:
        crops = photos.crops(photos.photos(args.photos), "calibration")
        manifest = build(args.out, crops, args.weights)
    except (SplitbusError, photos.PhotoError, FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for name, entry in manifest.files.items():
        print(f"{name:12} {entry.size:10,} bytes  {entry.sha256[:16]}")
    for point in manifest.points:
        print(f"point {point.id}: {point.part} through {point.codec} {point.config}, {point.mean_bytes} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
