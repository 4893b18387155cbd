"""Tiny but real bundles for tests: a split pair with a linear early exit, on 8x8 grey samples.

Building one exports two torch programs, about two seconds the first time; weights of one seed are
exported once a process.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from schemas.bundle import FULL, HEAD_NUMPY, MANIFEST, TAIL, Manifest, seal
from schemas.bundle_files import Bundle, open_bundle
from schemas.tensor import Array

LABELS = ("ring", "bar", "dot", "blank")
SAMPLE, CUT = (8, 8, 1), (4, 4, 4)
AFFINE_POINT, MINMAX_POINT, INPUT_POINT = 0, 1, 2
MAX_EXPORT_BATCH = 64


@dataclass(frozen=True)
class TinyPair:
    """The unsplit model in its parts; every module is in eval mode."""

    head: nn.Sequential
    exit: nn.Linear
    tail: nn.Sequential

    def cut(self, sample: Array) -> Array:
        """The cut tensor, float32 (4, 4, 4), of one uint8 sample (8, 8, 1)."""
        with torch.inference_mode():
            inputs = torch.from_numpy(sample.astype(np.float32).transpose(2, 0, 1).copy() / 255)
            cut: Array = self.head(inputs[None])[0].numpy()
        return cut

    def logits(self, cut: Array) -> Array:
        """Logits, float32 (4,), of one cut tensor."""
        with torch.inference_mode():
            logits: Array = self.tail(torch.from_numpy(cut)[None])[0].numpy()
        return logits


@lru_cache
def tiny_pair(seed: int = 0) -> TinyPair:
    """The pair with the weights of that seed; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyPair(
            head=nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU()).eval(),
            exit=nn.Linear(64, len(LABELS)).eval(),
            tail=nn.Sequential(
                nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, len(LABELS))
            ).eval(),
        )


def samples(count: int, seed: int = 0) -> Array:
    """Random samples, uint8 (count, 8, 8, 1)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *SAMPLE), np.uint8)


def make_bundle(
    path: Path,
    *,
    name: str = "tiny",
    version: str = "1.0.0",
    seed: int = 0,
    fields: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Write a bundle folder at `path` and open it.

    Points: 0 affine tail, 1 minmax_u8 tail, 2 input webp full. `fields` replace fields of the manifest,
    `files` replace files before their digests are taken.
    """
    contents = {**_files(seed), **(files or {})}
    manifest = seal(
        {**_fields(seed), "name": name, "edge_version": version, "cloud_version": version}
        | {"files": {file: _entry(data) for file, data in contents.items()}}
        | dict(fields or {})
    )
    path.mkdir(parents=True, exist_ok=True)
    for file, data in contents.items():
        (path / file).write_bytes(data)
    (path / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    return open_bundle(path)


def tiny_manifest(name: str = "tiny", version: str = "1.0.0", seed: int = 0) -> Manifest:
    """The manifest of such a bundle, without exporting anything: its files are stand-ins."""
    stand_in = {"size": 1, "sha256": "0" * 64}
    return seal(
        {
            **_fields(seed),
            "name": name,
            "edge_version": version,
            "cloud_version": version,
            "files": {HEAD_NUMPY: stand_in, TAIL: stand_in, FULL: stand_in},
        }
    )


def export_program(module: nn.Module, shape: tuple[int, ...], max_batch: int = MAX_EXPORT_BATCH) -> bytes:
    """Bytes of a .pt2 for inputs (n, *shape), n up to `max_batch`; for exactly 1 when that is 1."""
    batch = {0: torch.export.Dim("batch", min=1, max=max_batch)} if max_batch > 1 else None
    example = torch.zeros(min(2, max_batch), *shape)
    file = io.BytesIO()
    torch.export.save(torch.export.export(module.eval(), (example,), dynamic_shapes=(batch,)), file)
    return file.getvalue()


@lru_cache
def _files(seed: int) -> dict[str, bytes]:
    pair = tiny_pair(seed)
    return {
        HEAD_NUMPY: _numpy_head(pair),
        TAIL: export_program(pair.tail, CUT),
        FULL: export_program(nn.Sequential(pair.head, pair.tail), (1, 8, 8)),
    }


def _numpy_head(pair: TinyPair) -> bytes:
    """`head.npz` as `edge_node.numpy_graph` documents it."""
    conv = {"weight": "w0", "bias": "w1"}
    graph = {
        "format": 1,
        "input": "x",
        "shape": [1, 8, 8],
        "outputs": ["cut", "logits"],
        "nodes": [
            {
                "op": "conv2d",
                "inputs": ["x"],
                "output": "a",
                "weights": conv,
                "attrs": {"stride": [2, 2], "padding": [1, 1], "groups": 1},
            },
            {"op": "relu", "inputs": ["a"], "output": "cut"},
            {"op": "flatten", "inputs": ["cut"], "output": "b"},
            {"op": "linear", "inputs": ["b"], "output": "logits", "weights": {"weight": "w2", "bias": "w3"}},
        ],
    }
    weights = (*pair.head.parameters(), *pair.exit.parameters())
    file = io.BytesIO()
    arrays: dict[str, Any] = {f"w{index}": weight.detach().numpy() for index, weight in enumerate(weights)}
    np.savez(file, graph=np.frombuffer(json.dumps(graph).encode(), np.uint8), **arrays)
    return file.getvalue()


@lru_cache
def _fields(seed: int) -> dict[str, Any]:
    """Everything of the manifest but its name, versions, files and digest."""
    pair = tiny_pair(seed)
    cuts = np.stack([pair.cut(sample) for sample in samples(64)])
    scale = [float(value) for value in np.maximum(cuts.max(axis=(0, 2, 3)), 1e-3) / 255]
    weights = b"".join(each.detach().numpy().tobytes() for part in (pair.head, pair.tail) for each in part.parameters())
    return {
        "sample": {"dtype": "uint8", "shape": SAMPLE},
        "preprocess": {"kind": "image"},
        "labels": LABELS,
        "cut": {"dtype": "float32", "shape": CUT},
        "points": [
            {
                "id": AFFINE_POINT,
                "part": "tail",
                "codec": "affine",
                "config": {"bits": 8, "scale": scale, "zero": [0.0]},
                "mean_bytes": 64,
            },
            {"id": MINMAX_POINT, "part": "tail", "codec": "minmax_u8", "mean_bytes": 72},
            {"id": INPUT_POINT, "part": "full", "codec": "input", "config": {"format": "webp"}, "mean_bytes": 110},
        ],
        "exit": {"temperature": 1.0, "threshold": 0.9, "coverage": 0.5},
        "tail_temperature": 1.5,
        "profile": {"head_macs": 832, "tail_macs": 5120, "full_macs": 5696},
        "pairing": hashlib.sha256(weights).hexdigest(),
    }


def _entry(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
