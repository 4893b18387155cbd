"""From a torch module to a bundle in its place: the steps of `cloud-worker build`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloud_worker.build.build_options import BuildOptions
from cloud_worker.build.bundle_folder import beside, check_target, entries
from cloud_worker.build.choose import named_cut, no_choice, planned
from cloud_worker.build.codecs.rates import logits_of
from cloud_worker.build.cut.cuts import Cut, Graph, cuts, split
from cloud_worker.build.export.heads import check_int8, example_of, may_be_head, no_head
from cloud_worker.build.measure.profile_file import SplitProfile, read_profile, write_profile
from cloud_worker.build.measure.profiling import Settings, measure, worth_measuring
from cloud_worker.build.model_source import load_model
from cloud_worker.build.parts import Parts, Source, make_parts
from cloud_worker.build.plan.ranking import Plan, Ranked
from cloud_worker.build.point_leakage import Dealt, points_leakage, with_leakage
from cloud_worker.build.samples.dealt import Part, SampleSet
from cloud_worker.build.samples.taken import take_samples
from cloud_worker.build.say import Say
from cloud_worker.build.self_test import Trial, try_bundle
from cloud_worker.build.writing import write_manifest, write_parts
from schemas.bundle import Manifest, seal
from schemas.bundle_files import open_bundle
from schemas.errors import SampleError


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
    parts: Parts
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
    best = chosen.best.candidate.point if chosen.best else None
    planned_point = None if best is None else (best.codec, best.config)
    parts = make_parts(Source(model, graph, cut, planned_point, found, whole), options, say)
    with beside(options.out) as folder:
        say("writing the bundle")
        write_parts(folder, parts, model, example)
        manifest = seal({**_named(options, labels), **parts.fields, "files": entries(folder)})
        write_manifest(folder, manifest)
        say(f"trying it on {len(found.held_out)} held-out samples")
        trial = try_bundle(folder, model, parts.halves, found.held_out)
        manifest = _with_accuracy(manifest, trial)
        if options.leakage:
            say("measuring what each operating point leaks")
            manifest = _with_leakage(folder, manifest, parts, found)
        write_manifest(folder, manifest)
    return Built(manifest, chosen, found, parts, trial)


def _named(options: BuildOptions, labels: tuple[str, ...]) -> dict[str, Any]:
    versions = {"edge_version": options.version, "cloud_version": options.version}
    return {"name": options.name, **versions, "labels": labels}


def _finite(logits: Tensor, part: Part) -> Tensor:
    """Raise SampleError, naming the first sample whose logits (N, classes) are not finite."""
    wrong = (~logits.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if wrong:
        msg = f"the model's answer to {part.names[wrong[0]]} is not finite; look at the model, or remove that sample"
        raise SampleError(msg)
    return logits


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


def _with_accuracy(manifest: Manifest, trial: Trial) -> Manifest:
    measured = {
        "exit_accuracy": trial.exit.everywhere.accuracy if trial.exit else None,
        "split_accuracy": trial.points[0].accuracy,
        "full_accuracy": trial.full_accuracy,
    }
    return manifest.model_copy(update={"profile": manifest.profile.model_copy(update=measured)})


def _with_leakage(folder: Path, manifest: Manifest, parts: Parts, samples: SampleSet) -> Manifest:
    """Its attacker is fitted to calibration samples and measured on held-out ones."""
    calibration, held_out = samples.calibration, samples.held_out
    cuts = Dealt(parts.sent, parts.halves.run_head(held_out.inputs).cuts)
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
