"""The committed heads, manifests that fit them, and a writer of `head.npz` that is not the exporter. Never torch."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import HEAD_NUMPY, HEAD_TFLITE, MANIFEST, TAIL, Manifest, seal
from schemas.bundle_files import Bundle, open_bundle

DATA = Path(__file__).parent / "data"
IMAGE: dict[str, Any] = {"sample": {"dtype": "uint8", "shape": (8, 8, 1)}, "preprocess": {"kind": "image"}}
VECTOR: dict[str, Any] = {"sample": {"dtype": "float32", "shape": (4,)}, "preprocess": {"kind": "identity"}}
SMALL: dict[str, Any] = {**IMAGE, "cut": {"dtype": "float32", "shape": (4, 4, 4)}, "labels": tuple("abcd")}
TWINS: dict[str, Any] = {**VECTOR, "cut": {"dtype": "float32", "shape": (3,)}, "labels": tuple("abc")}
EXIT = {"temperature": 1.0, "threshold": 0.9, "coverage": 0.5}


def manifest(fields: dict[str, Any], *, has_exit: bool = True, **others: Any) -> Manifest:
    """A manifest whose files are stand-ins."""
    return seal(
        {
            "name": "tiny",
            "edge_version": "1.0.0",
            "cloud_version": "1.0.0",
            "points": [{"id": 0, "part": "tail", "codec": "minmax_u8"}],
            "exit": EXIT if has_exit else None,
            "profile": {"head_macs": 1, "tail_macs": 1, "full_macs": 1},
            "files": {name: _entry(b"x") for name in (HEAD_TFLITE, HEAD_NUMPY, TAIL)},
            "pairing": "0" * 64,
            **fields,
            **others,
        }
    )


def write_bundle(path: Path, files: dict[str, bytes], **fields: Any) -> Bundle:
    """A bundle folder around heads of the net `small`."""
    contents = {TAIL: b"a tail", **files}
    sealed = manifest(SMALL, files={name: _entry(data) for name, data in contents.items()}, **fields)
    path.mkdir()
    for name, data in {**contents, MANIFEST: sealed.model_dump_json().encode()}.items():
        (path / name).write_bytes(data)
    return open_bundle(path)


def expected(net: str) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
    """Inputs, and what torch made of them: cuts, logits."""
    with np.load(DATA / "expected.npz") as arrays:
        return arrays[f"{net}_inputs"], arrays[f"{net}_cut"], arrays.get(f"{net}_logits")


def write_npz(graph: dict[str, Any] | bytes, **weights: NDArray[Any]) -> bytes:
    """`head.npz` with that graph, or with those bytes in its place."""
    text = graph if isinstance(graph, bytes) else json.dumps(graph).encode()
    file = io.BytesIO()
    np.savez(file, graph=np.frombuffer(text, np.uint8), **weights)
    return file.getvalue()


def _entry(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
