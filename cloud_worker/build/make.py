"""From a torch module to a bundle in its place: the steps of `cloud-worker build`."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from cloud_worker.build.answers import Answers, Said, calibrate
from cloud_worker.build.build_options import BuildOptions
from cloud_worker.build.bundle_folder import beside, check_target, entries
from cloud_worker.build.choose import named_cut, no_choice, planned
from cloud_worker.build.codecs.rates import FirstOutput, Rates, cut_rates, input_rates, logits_of, numbered
from cloud_worker.build.cut.cuts import Cut, Graph, cuts, split
from cloud_worker.build.export.freeze import weights_digest, write_pt2
from cloud_worker.build.export.heads import Heads, check_int8, example_of, export_heads, may_be_head, no_head, with_int8
from cloud_worker.build.halves import Halves, full_macs, make_halves
from cloud_worker.build.measure.profile_file import SplitProfile, read_profile, write_profile
from cloud_worker.build.measure.profiling import Settings, measure, worth_measuring
from cloud_worker.build.model_source import load_model
from cloud_worker.build.plan.ranking import Plan, Ranked
from cloud_worker.build.point_leakage import Dealt, points_leakage, with_leakage
from cloud_worker.build.samples.dealt import Part, SampleSet
from cloud_worker.build.samples.taken import take_samples
from cloud_worker.build.self_test import Trial, try_bundle
from schemas.bundle import FULL, MANIFEST, TAIL, Manifest, seal
from schemas.bundle_files import open_bundle
from schemas.certificate import CERTIFICATE
from schemas.codecs import open_codec
from schemas.codecs.tables import pack_tables
from schemas.errors import SampleError
from schemas.tensor import Array

Say = Callable[[str], None]
_MOST_TEMPERED: Final = 1000
"""Calibration samples that travel to find the tail's temperature."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The cut, and the plan that chose it where there was one."""

    cut: Cut
    plan: Plan | None
    best: Ranked | None


@dataclass(frozen=True, slots=True)
class Built:
    """What was built and how it did."""

    manifest: Manifest
    chosen: Chosen
    samples: SampleSet
    halves: Halves
    heads: Heads
    rates: tuple[Rates, Rates]
    """Of the cut, and of the input."""
    answers: Answers
    trial: Trial


def build(options: BuildOptions, say: Say) -> Built:
    """Build, try and put in place; a bundle that was there is replaced whole, or left alone when anything fails.

    Nothing but a bundle is replaced. Raises BadInputError for a model, samples or options that cannot be used,
    MismatchError where a written file does not answer as the model, OSError where nothing can be written.
    """
    with _quiet():
        return _build(options, say)


def _build(options: BuildOptions, say: Say) -> Built:
    if options.int8:
        check_int8()
    check_target(options.out, options.samples)
    model = load_model(options.model, options.weights)
    say(f"reading samples in {options.samples}")
    found, labels = take_samples(options, model)
    calibration = found.calibration
    example = example_of(calibration.inputs)
    say(f"tracing the model for {list(example.shape[1:])}, {len(calibration)} samples to calibrate on")
    graph = Graph.trace(model, example)
    whole = _finite(logits_of(model, calibration.inputs), calibration)
    chosen = _chosen(options, graph, found, say)
    cut = chosen.cut
    say(f"cut {cut.index} after {cut.name}: {cut.elements:,} values, {cut.share:.1%} of the multiply-accumulates")
    halves = make_halves(model, graph, cut, fitting=options.fitting, samples=found, say=say)
    say("fitting codec tables, choosing rates")
    sent = halves.run_head(calibration.inputs)
    rates = (_cut_rates(options, chosen, halves, sent.cuts), input_rates(found.spec, calibration.arrays))
    paired = pairing(model, graph, cut, halves)
    said = Said(whole, _arrived(halves, rates[0], sent.cuts), sent.logits)
    answers = calibrate(said, calibration, options.promise, paired)
    say("exporting the head")
    heads = export_heads(halves.head, example)
    if options.int8:
        heads = with_int8(heads, calibration.inputs)
    fields = {
        "name": options.name,
        "edge_version": options.version,
        "cloud_version": options.version,
        "sample": found.spec.model_dump(),
        "preprocess": found.preprocess.model_dump(),
        "labels": labels,
        "cut": halves.cut.model_dump(),
        "points": numbered(*rates),
        "exit": answers.exit.exit.model_dump() if answers.exit else None,
        "tail_temperature": answers.tail_temperature,
        "full_temperature": answers.full_temperature,
        "profile": {
            "head_macs": halves.head_macs,
            "tail_macs": halves.tail_macs,
            "full_macs": full_macs(graph),
        },
        "pairing": paired,
    }
    with beside(options.out) as folder:
        say("writing the bundle")
        _write(folder, heads, rates, halves, (model, example))
        if answers.exit and answers.exit.certificate:
            (folder / CERTIFICATE).write_bytes(answers.exit.certificate.to_bytes())
        manifest = seal({**fields, "files": entries(folder)})
        _write_manifest(folder, manifest)
        say(f"trying it on {len(found.held_out)} held-out samples")
        trial = try_bundle(folder, model, halves, found.held_out)
        manifest = _with_accuracy(manifest, trial)
        if options.leakage:
            say("measuring what each operating point leaks")
            manifest = _with_leakage(folder, manifest, sent.cuts, halves, found)
        _write_manifest(folder, manifest)
    return Built(manifest, chosen, found, halves, heads, rates, answers, trial)


def _finite(logits: Tensor, part: Part) -> Tensor:
    """Raise SampleError, naming the first sample whose logits (N, classes) are not finite."""
    wrong = (~logits.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if wrong:
        msg = f"the model's answer to {part.names[wrong[0]]} is not finite; look at the model, or remove that sample"
        raise SampleError(msg)
    return logits


def _cut_rates(options: BuildOptions, chosen: Chosen, halves: Halves, sent: Array) -> Rates:
    """The point that the plan chose is among them, unless another tensor travels now."""
    best = chosen.best.candidate.point if chosen.best and halves.learnt is None else None
    wanted = None if best is None else (best.codec, best.config)
    return cut_rates(halves.tail, torch.from_numpy(sent), options.rates, wanted=wanted, baselines=options.baselines)


def _arrived(halves: Halves, rates: Rates, sent: Array) -> Tensor:
    """The tail's logits of some calibration samples that travelled at the finest rate."""
    point = rates.points[0]
    tables = rates.tables[point["tables"]] if point["tables"] else None
    codec = open_codec(point["codec"], halves.cut, point["config"], tables)
    few = [codec.decode(codec.encode(each)) for each in sent[:_MOST_TEMPERED]]
    return halves.run_tail(torch.from_numpy(np.stack(few)))


def _chosen(options: BuildOptions, graph: Graph, samples: SampleSet, say: Say) -> Chosen:
    """The cut that is named, or the best of the profile: that of the file, or one that is measured now."""
    found = cuts(graph)
    if options.cut is not None:
        return Chosen(named_cut(found, options.cut), None, None)
    if options.profile is not None and options.profile.exists():
        say(f"planning with {options.profile}")
        profile = read_profile(options.profile)
    else:
        profile = profiled(options.name, graph, found, samples, say)
        if options.profile is not None:
            write_profile(profile, options.profile)
    example = example_of(samples.calibration.inputs)
    return Chosen(*planned(found, profile, options.planning, lambda cut: no_head(split(graph, cut)[0], example), say))


def profiled(name: str, graph: Graph, found: list[Cut], samples: SampleSet, say: Say) -> SplitProfile:
    """Measure the cuts that are worth it and whose head an edge runtime takes. Raises ConfigError for none."""
    example = example_of(samples.calibration.inputs)
    worth = [cut for cut in worth_measuring(found) if may_be_head(split(graph, cut)[0], example)]
    if not worth:
        raise no_choice(found)
    say(f"measuring {len(worth)} cuts")
    return measure(graph, worth, samples.as_data(), Settings(model=name), say)


def pairing(model: nn.Module, graph: Graph, cut: Cut, halves: Halves) -> str:
    """SHA-256 in hex over the weights, the calls that the model is made of, where it is cut, and what was learnt."""
    digest = hashlib.sha256(weights_digest(full=model).encode())
    for node in graph.nodes:
        digest.update(f"{node.name}:{node.target}{node.args}{node.kwargs};".encode())
    digest.update(f"{cut.index}:{cut.name}".encode())
    if halves.learnt is not None:
        digest.update(weights_digest(head=halves.head, tail=halves.tail).encode())
    return digest.hexdigest()


def _write(
    folder: Path, heads: Heads, rates: tuple[Rates, Rates], halves: Halves, full: tuple[nn.Module, Tensor]
) -> None:
    for name, data in heads.files.items():
        (folder / name).write_bytes(data)
    for name, tables in rates[0].tables.items():
        (folder / name).write_bytes(pack_tables(tables))
    write_pt2(halves.tail, torch.zeros(1, *halves.cut.shape), folder / TAIL)
    if rates[1].points:
        write_pt2(_single(*full), full[1], folder / FULL)


@torch.no_grad()
def _single(model: nn.Module, example: Tensor) -> nn.Module:
    """What returns logits alone: the model, or its first output."""
    return model if isinstance(model(example), Tensor) else FirstOutput(model).eval()


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")


def _with_accuracy(manifest: Manifest, trial: Trial) -> Manifest:
    measured = {
        "exit_accuracy": trial.exit.everywhere.accuracy if trial.exit else None,
        "split_accuracy": trial.points[0].accuracy,
        "full_accuracy": trial.full_accuracy,
    }
    return manifest.model_copy(update={"profile": manifest.profile.model_copy(update=measured)})


def _with_leakage(folder: Path, manifest: Manifest, sent: Array, halves: Halves, samples: SampleSet) -> Manifest:
    """Its attacker is fitted to calibration samples and measured on held-out ones."""
    calibration, held_out = samples.calibration, samples.held_out
    cuts = Dealt(sent, halves.run_head(held_out.inputs).cuts)
    codecs = open_bundle(folder).codecs()
    return with_leakage(manifest, points_leakage(manifest, codecs, cuts, Dealt(calibration.arrays, held_out.arrays)))


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of torch about torch; attention layer by layer, as it is cut and exported."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
