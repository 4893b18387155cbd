"""The files of a bundle, from its parts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cloud_worker.build.codecs.rates import FirstOutput
from cloud_worker.build.export.freeze import write_pt2
from cloud_worker.build.parts import Parts
from schemas.bundle import FULL, MANIFEST, TAIL, Manifest
from schemas.certificate import CERTIFICATE
from schemas.codecs.tables import pack_tables


def write_parts(folder: Path, parts: Parts, model: nn.Module, example: Tensor) -> None:
    """Everything but the manifest. `example` is one input of the model, (1, ...). Raises OSError."""
    for name, data in parts.heads.files.items():
        (folder / name).write_bytes(data)
    for name, tables in parts.rates[0].tables.items():
        (folder / name).write_bytes(pack_tables(tables))
    write_pt2(parts.halves.tail, torch.zeros(1, *parts.halves.cut.shape), folder / TAIL)
    if parts.rates[1].points:
        write_pt2(_single(model, example), example, folder / FULL)
    if parts.answers.exit and parts.answers.exit.certificate:
        (folder / CERTIFICATE).write_bytes(parts.answers.exit.certificate.to_bytes())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """manifest.json. Raises OSError."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")


@torch.no_grad()
def _single(model: nn.Module, example: Tensor) -> nn.Module:
    """What returns logits alone: the model, or its first output."""
    return model if isinstance(model(example), Tensor) else FirstOutput(model).eval()
