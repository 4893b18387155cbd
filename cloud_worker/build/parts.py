"""Everything that a bundle is made of, before a file is written: halves, operating points, temperatures, heads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from cloud_worker.build.answers import Answers, Said, calibrate
from cloud_worker.build.build_options import BuildOptions
from cloud_worker.build.codecs.rates import Rates, cut_rates, input_rates, numbered
from cloud_worker.build.cut.cuts import Cut, Graph
from cloud_worker.build.export.freeze import weights_digest
from cloud_worker.build.export.heads import Heads, example_of, export_heads, with_int8
from cloud_worker.build.halves import Halves, full_macs, make_halves
from cloud_worker.build.samples.dealt import SampleSet
from cloud_worker.build.say import Say
from schemas.codecs import open_codec
from schemas.tensor import Array

_MOST_TEMPERED: Final = 1000
"""Calibration samples that travel to find the tail's temperature."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What parts are made from."""

    model: nn.Module
    graph: Graph
    cut: Cut
    planned: tuple[str, dict[str, Any]] | None
    """Codec and configuration that a plan chose for the cut."""
    samples: SampleSet
    whole: Tensor
    """The model's logits (N, classes) of the calibration samples."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Ready to be written."""

    halves: Halves
    sent: Array
    """Cuts (N, ...) of the calibration samples."""
    rates: tuple[Rates, Rates]
    """Of the cut, and of the input."""
    answers: Answers
    heads: Heads
    fields: dict[str, Any]
    """Of the manifest, but for name, versions, labels and files."""


def make_parts(source: Source, options: BuildOptions, say: Say) -> Parts:
    """Raises as `make_halves`, `cut_rates`, `calibrate` and `export_heads` do."""
    samples, calibration = source.samples, source.samples.calibration
    halves = make_halves(source.model, source.graph, source.cut, fitting=options.fitting, samples=samples, say=say)
    say("fitting codec tables, choosing rates")
    sent = halves.run_head(calibration.inputs)
    rates = (_cut_rates(source, options, halves, sent.cuts), input_rates(samples.spec, calibration.arrays))
    paired = pairing(source.model, source.graph, source.cut, halves)
    said = Said(source.whole, _arrived(halves, rates[0], sent.cuts), sent.logits)
    answers = calibrate(said, calibration, options.promise, paired)
    say("exporting the head")
    heads = export_heads(halves.head, example_of(calibration.inputs))
    if options.int8:
        heads = with_int8(heads, calibration.inputs)
    fields = _fields(source, halves, rates, answers) | {"pairing": paired}
    return Parts(halves, sent.cuts, rates, answers, heads, fields)


def _fields(source: Source, halves: Halves, rates: tuple[Rates, Rates], answers: Answers) -> dict[str, Any]:
    samples = source.samples
    return {
        "sample": samples.spec.model_dump(),
        "preprocess": samples.preprocess.model_dump(),
        "cut": halves.cut.model_dump(),
        "points": numbered(*rates),
        "exit": answers.exit.exit.model_dump() if answers.exit else None,
        "tail_temperature": answers.tail_temperature,
        "full_temperature": answers.full_temperature,
        "profile": {
            "head_macs": halves.head_macs,
            "tail_macs": halves.tail_macs,
            "full_macs": full_macs(source.graph),
        },
    }


def _cut_rates(source: Source, options: BuildOptions, halves: Halves, sent: Array) -> Rates:
    """The point that the plan chose is among them, unless another tensor travels now."""
    wanted = source.planned if halves.learnt is None else None
    return cut_rates(halves.tail, torch.from_numpy(sent), options.rates, wanted=wanted, baselines=options.baselines)


def _arrived(halves: Halves, rates: Rates, sent: Array) -> Tensor:
    """The tail's logits of some calibration samples that travelled at the finest rate."""
    point = rates.points[0]
    tables = rates.tables[point["tables"]] if point["tables"] else None
    codec = open_codec(point["codec"], halves.cut, point["config"], tables)
    few = [codec.decode(codec.encode(each)) for each in sent[:_MOST_TEMPERED]]
    return halves.run_tail(torch.from_numpy(np.stack(few)))


def pairing(model: nn.Module, graph: Graph, cut: Cut, halves: Halves) -> str:
    """SHA-256 in hex over the weights, the calls that the model is made of, where it is cut, and what was learnt."""
    digest = hashlib.sha256(weights_digest(full=model).encode())
    for node in graph.nodes:
        digest.update(f"{node.name}:{node.target}{node.args}{node.kwargs};".encode())
    digest.update(f"{cut.index}:{cut.name}".encode())
    if halves.learnt is not None:
        digest.update(weights_digest(head=halves.head, tail=halves.tail).encode())
    return digest.hexdigest()
