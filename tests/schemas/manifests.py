"""A small bundle that holds together, without any model in it."""

from __future__ import annotations

import copy
import hashlib
import zipfile
from pathlib import Path
from typing import Any

from schemas.bundle import FULL, HEAD_NUMPY, HEAD_TFLITE, MANIFEST, TAIL, Manifest, seal

CONTENT: dict[str, bytes] = {
    HEAD_NUMPY: b"head of numpy" * 20,
    HEAD_TFLITE: b"head of tflite" * 20,
    TAIL: bytes(range(256)) * 4,
    FULL: b"full" * 100,
}


def entries(content: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    return {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in content.items()}


_FIELDS: dict[str, Any] = {
    "name": "fashion",
    "edge_version": "1.4.0",
    "cloud_version": "1.4.2",
    "sample": {"dtype": "uint8", "shape": [6, 7, 3]},
    "preprocess": {"kind": "image", "scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "labels": ["boot", "Füße", "bag"],
    "cut": {"dtype": "float32", "shape": [3, 2, 5]},
    "points": [
        {"id": 0, "part": "tail", "codec": "minmax_u8", "mean_bytes": 38.0},
        {"id": 1, "part": "tail", "codec": "affine", "config": {"bits": 4, "scale": [0.1, 0.2, 0.3], "zero": [-0.7]}},
        {"id": 2, "part": "full", "codec": "input", "config": {"format": "webp", "quality": 80}},
    ],
    "exit": {"temperature": 1.5, "threshold": 0.9, "coverage": 0.6},
    "profile": {"head_macs": 100, "tail_macs": 1000, "full_macs": 1100, "split_accuracy": 0.925},
    "files": entries(CONTENT),
    "pairing": "5a" * 32,
}


def fields(**changes: Any) -> dict[str, Any]:
    """All fields but `interface`, with some of them changed."""
    return {**copy.deepcopy(_FIELDS), **changes}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in fields().items() if key != name}


def manifest_bytes(manifest: Manifest | None = None) -> bytes:
    return (manifest or seal(fields())).model_dump_json().encode()


def write_folder(place: Path, manifest: bytes | None = None, **content: bytes) -> Path:
    place.mkdir()
    (place / MANIFEST).write_bytes(manifest_bytes() if manifest is None else manifest)
    for name, data in {**CONTENT, **content}.items():
        (place / name).write_bytes(data)
    return place


def write_zip(place: Path, method: int = zipfile.ZIP_DEFLATED, manifest: bytes | None = None) -> Path:
    with zipfile.ZipFile(place, "w", method) as archive:
        archive.writestr(MANIFEST, manifest_bytes() if manifest is None else manifest)
        for name, data in CONTENT.items():
            archive.writestr(name, data)
    return place
