"""A bundle for each candidate of a plan, so that a real node and a real worker can run exactly that."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.regret_subject import Profiled, of_sample
from cloud_worker.build.bundle_folder import entries
from cloud_worker.build.cut.cuts import split
from cloud_worker.build.export.freeze import weights_digest, write_pt2
from cloud_worker.build.export.to_numpy import export_numpy
from cloud_worker.build.export.to_tflite import export_tflite, has_converter
from cloud_worker.build.measure.net import run, whole_of
from cloud_worker.build.measure.points import fit_tables
from cloud_worker.build.plan.candidates import Candidate
from schemas.bundle import FULL, HEAD_NUMPY, HEAD_TFLITE, MANIFEST, TABLES, TAIL, seal
from schemas.codecs.tables import pack_tables
from schemas.policy import Route

_ALWAYS = {"temperature": 1.0, "threshold": 0.0, "coverage": 1.0}


class _Both(nn.Module):
    """A head whose exit is all the rest of the model."""

    def __init__(self, head: nn.Module, tail: nn.Module) -> None:
        super().__init__()
        self.head, self.tail = head, tail

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The cut and the logits."""
        cut = self.head(x)
        return cut, self.tail(cut)


class Written(NamedTuple):
    """A candidate's folder, and the route that runs it."""

    folder: Path
    route: str


def write_bundle(found: Profiled, candidate: Candidate, folder: Path) -> Written:
    """The bundle in a new folder, whose name becomes the bundle's.

    What is not cut needs a cut all the same: the first. Raises BundleError where the whole model is no head.
    """
    route = candidate.site.route
    index = candidate.site.cut or min(found.heads.keys() & found.cuts.keys())
    head, tail = split(found.graph, found.cuts[index])
    example = torch.zeros(1, *found.subject.inputs(found.subject.held_out[:1]).shape[1:])
    cut = found.cuts[index].spec
    assert cut is not None
    folder.mkdir()
    name, data = _edge_alone(head, tail, example) if route is Route.EDGE_ONLY else found.heads[index]
    (folder / name).write_bytes(data)
    write_pt2(tail, torch.zeros(1, *cut.shape), folder / TAIL)
    point = _point(found, candidate, tail, head, folder)
    if point["part"] == "full":
        write_pt2(whole_of(found.graph), example, folder / FULL)
    fields = {
        "name": folder.name,
        "edge_version": "1.0.0",
        "cloud_version": "1.0.0",
        **of_sample(found.subject),
        "labels": tuple(map(str, range(len(run(found.subject.net, example.numpy())[0])))),
        "cut": cut.model_dump(),
        "points": [point],
        "exit": _ALWAYS if route is Route.EDGE_ONLY else None,
        "profile": {"head_macs": found.cuts[index].macs, "tail_macs": 0, "full_macs": found.profile.full_macs},
        "files": entries(folder),
        "pairing": weights_digest(full=found.subject.net),
    }
    (folder / MANIFEST).write_text(seal(fields).model_dump_json())
    return Written(folder, {Route.EDGE_ONLY: "edge", Route.CLOUD_ONLY: "cloud"}.get(route, "hybrid"))


def _edge_alone(head: nn.Module, tail: nn.Module, example: Tensor) -> tuple[str, bytes]:
    both = _Both(head, tail).eval()
    if not has_converter():
        return HEAD_NUMPY, export_numpy(both, example)
    with contextlib.redirect_stdout(sys.stderr):  # the converter prints its steps
        return HEAD_TFLITE, export_tflite(both, example)


def _point(found: Profiled, candidate: Candidate, tail: nn.Module, head: nn.Module, folder: Path) -> dict[str, Any]:
    """The only operating point, its tables written where it has some; any point where nothing is sent."""
    point = candidate.point
    if point is None:
        return {"id": 0, "part": "tail", "codec": "minmax_u8"}
    part = "full" if candidate.site.route is Route.CLOUD_ONLY else "tail"
    row = {"id": 0, "part": part, "codec": point.codec, "config": point.config, "mean_bytes": point.bytes_mean}
    if point.codec != "transform":
        return row
    known = found.subject.inputs(found.subject.calibration)
    (folder / TABLES).write_bytes(pack_tables(fit_tables(tail, run(head, known))))
    return {**row, "tables": TABLES}
