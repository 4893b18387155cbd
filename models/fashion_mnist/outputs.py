"""What the parts of a bundle say of images: logits, one image or a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from cloud_worker.build.export import freeze
from edge_node.heads import Head, open_head
from schemas.bundle import FULL, TAIL
from schemas.bundle_files import Bundle

if TYPE_CHECKING:
    from models.fashion_mnist import data
    from schemas.tensor import Array


class Outputs(NamedTuple):
    """Logits float32 (N, 10) of every answer that can be given for a sample."""

    full: Array
    exit: Array
    tail: Array


def run_head(head: Head, inputs: Array) -> tuple[Array, Array]:
    """Cuts and logits of a deployed head, one sample at a time."""
    found = [head.run(sample) for sample in inputs]
    return np.stack([one.cut for one in found]), np.stack([one.logits for one in found if one.logits is not None])


def run_pt2(bundle: Bundle, name: str, inputs: Array) -> Array:
    """Logits (N, 10) of an exported program whose digest holds."""
    bundle.read(name)
    module = torch.export.load(bundle.path / name).module()
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(inputs), freeze.MAX_BATCH)
        found: Array = torch.cat([module(part) for part in parts]).numpy()
    return found


def outputs(bundle: Bundle, images: data.Bytes) -> tuple[Outputs, float]:
    """Logits of every part of the bundle, and the mean bytes of a cut at operating point 0."""
    manifest = bundle.manifest
    codec = bundle.codec(manifest.points[0])
    inputs = np.stack([manifest.preprocess.apply(image) for image in images[..., None]])
    cuts, exit_logits = run_head(open_head(bundle, "auto"), inputs)
    payloads = [codec.encode(cut) for cut in cuts]
    arrived = np.stack([codec.decode(payload) for payload in payloads])
    full, tail = run_pt2(bundle, FULL, inputs), run_pt2(bundle, TAIL, arrived)
    return Outputs(full, exit_logits, tail), float(np.mean([len(payload) for payload in payloads]))
