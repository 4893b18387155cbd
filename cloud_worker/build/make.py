"""From a torch module to a bundle in its place: the steps of `cloud-worker build`."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cloud_worker.build.build_options import BuildOptions
from cloud_worker.build.bundle_folder import beside, entries
from cloud_worker.build.choose import named_cut, no_choice, planned
from cloud_worker.build.codecs.rates import Rates, cut_rates, input_rates, logits_of, numbered
from cloud_worker.build.cut.cuts import Cut, Graph, cuts, split
from cloud_worker.build.cut.macs import macs_of
from cloud_worker.build.export.freeze import weights_digest, write_pt2
from cloud_worker.build.export.heads import Heads, check_int8, example_of, export_heads, may_be_head, with_int8
from cloud_worker.build.measure.profile_file import SplitProfile, read_profile, write_profile
from cloud_worker.build.measure.profiling import Settings, measure, worth_measuring
from cloud_worker.build.model_source import load_model
from cloud_worker.build.plan.ranking import Plan, Ranked
from cloud_worker.build.samples.dealt import SampleSet, class_names, deal, read_lines, targets_of
from cloud_worker.build.samples.files import read_samples
from cloud_worker.build.self_test import Trial, try_bundle
from schemas.bundle import FULL, MANIFEST, TAIL, Manifest, seal
from schemas.codecs.tables import pack_tables
from schemas.errors import BundleError, ConfigError
from schemas.preprocess import Preprocess

Say = Callable[[str], None]
_CLASS_AXES = 2


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
    heads: Heads
    rates: tuple[Rates, Rates]
    """Of the cut, and of the input."""
    trial: Trial


def build(options: BuildOptions, say: Say) -> Built:
    """Build, try and put in place; a bundle that was there is replaced whole, or left alone when anything fails.

    Raises BadInputError for a model, samples or options that cannot be used, MismatchError where a written file does
    not answer as the model, OSError where nothing can be written.
    """
    with _quiet():
        return _build(options, say)


def _build(options: BuildOptions, say: Say) -> Built:
    if options.int8:
        check_int8()
    model = load_model(options.model, options.weights)
    say(f"reading samples in {options.samples}")
    found, labels = _samples(options, model)
    example = example_of(found.calibration.inputs)
    say(f"tracing the model for {list(example.shape[1:])}, {len(found.calibration)} samples to calibrate on")
    graph = Graph.trace(model, example)
    chosen = _chosen(options, graph, found, say)
    cut = chosen.cut
    say(f"cut {cut.index} after {cut.name}: {cut.elements:,} values, {cut.share:.1%} of the multiply-accumulates")
    head, tail = split(graph, cut)
    say("fitting codec tables, choosing rates")
    wanted = chosen.best.candidate.point if chosen.best else None
    level = wanted.config.get("level") if wanted and wanted.codec == "transform" else None
    calibration = found.calibration
    rates = (
        cut_rates(tail, logits_of(head, calibration.inputs).clone(), level if isinstance(level, int) else None),
        input_rates(found.spec, calibration.arrays),
    )
    say("exporting the head")
    heads = export_heads(head, example)
    if options.int8:
        heads = with_int8(heads, calibration.inputs)
    fields = {
        **_fields(options, found, labels, graph, cut),
        "points": numbered(*rates),
        "pairing": pairing(model, graph, cut),
    }
    with beside(options.out) as folder:
        say("writing the bundle")
        _write(folder, heads, rates, (tail, cut.spec.shape if cut.spec else ()), (model, example))
        manifest = seal({**fields, "files": entries(folder)})
        _write_manifest(folder, manifest)
        say(f"trying it on {len(found.held_out)} held-out samples")
        trial = try_bundle(folder, model, head, found.held_out)
        manifest = _with_accuracy(manifest, trial)
        _write_manifest(folder, manifest)
    return Built(manifest, chosen, found, heads, rates, trial)


def _samples(options: BuildOptions, model: nn.Module) -> tuple[SampleSet, tuple[str, ...]]:
    """The samples in two parts, and the labels."""
    found = read_samples(options.samples, options.input_shape)
    preprocess = options.preprocess or Preprocess(kind="image" if found[0].array.dtype == "uint8" else "identity")
    dealt = deal(found, preprocess, None)
    outputs = _outputs(model, dealt.calibration.inputs[:1])
    told = None if options.labels is None else read_lines(options.labels, "--labels")
    labels = class_names(found, told, outputs)
    targets = targets_of(found, labels, options.targets)
    return (dealt if targets is None else deal(found, preprocess, targets)), labels


def _outputs(model: nn.Module, inputs: Tensor) -> int:
    """How many classes the model tells apart. Raises BundleError where it does no such thing."""
    try:
        logits = logits_of(model, inputs)
    except Exception as error:  # whatever the model's code raises
        reason = " ".join(str(error).split())[:200]
        msg = f"the model does not take samples of {list(inputs.shape[1:])} ({reason}); say --input-shape"
        raise ConfigError(msg) from error
    if logits.dim() != _CLASS_AXES:
        msg = f"the model returns {list(logits.shape)} for one sample; return logits (batch, classes)"
        raise BundleError(msg)
    return logits.shape[1]


def _chosen(options: BuildOptions, graph: Graph, samples: SampleSet, say: Say) -> Chosen:
    """The cut that is named, or the best of the profile: that of the file, or one that is measured now."""
    found = cuts(graph)
    if options.cut is not None:
        return Chosen(named_cut(found, options.cut), None, None)
    if options.profile is not None and options.profile.exists():
        say(f"planning with {options.profile}")
        return Chosen(*planned(found, read_profile(options.profile), options.planning))
    measured = profiled(options.name, graph, found, samples, say)
    if options.profile is not None:
        write_profile(measured, options.profile)
    return Chosen(*planned(found, measured, options.planning))


def profiled(name: str, graph: Graph, found: list[Cut], samples: SampleSet, say: Say) -> SplitProfile:
    """Measure the cuts that are worth it and whose head an edge runtime takes. Raises ConfigError for none."""
    example = example_of(samples.calibration.inputs)
    worth = [cut for cut in worth_measuring(found) if may_be_head(split(graph, cut)[0], example)]
    if not worth:
        raise no_choice(found)
    say(f"measuring {len(worth)} cuts")
    return measure(graph, worth, samples.as_data(), Settings(model=name), say)


def _fields(
    options: BuildOptions, samples: SampleSet, labels: tuple[str, ...], graph: Graph, cut: Cut
) -> dict[str, Any]:
    """The manifest but for points, pairing, files and the interface digest."""
    full = sum(macs_of(step, graph.batch) for step in graph.steps)
    return {
        "name": options.name,
        "edge_version": options.version,
        "cloud_version": options.version,
        "sample": samples.spec.model_dump(),
        "preprocess": samples.preprocess.model_dump(),
        "labels": labels,
        "cut": cut.spec.model_dump() if cut.spec else None,
        "profile": {"head_macs": cut.macs, "tail_macs": full - cut.macs, "full_macs": full},
    }


def pairing(model: nn.Module, graph: Graph, cut: Cut) -> str:
    """SHA-256 in hex over the weights, the calls that the model is made of, and where it is cut."""
    digest = hashlib.sha256(weights_digest(full=model).encode())
    for node in graph.nodes:
        digest.update(f"{node.name}:{node.target}{node.args}{node.kwargs};".encode())
    digest.update(f"{cut.index}:{cut.name}".encode())
    return digest.hexdigest()


def _write(
    folder: Path,
    heads: Heads,
    rates: tuple[Rates, Rates],
    tail: tuple[nn.Module, tuple[int, ...]],
    full: tuple[nn.Module, Tensor],
) -> None:
    for name, data in heads.files.items():
        (folder / name).write_bytes(data)
    for name, tables in rates[0].tables.items():
        (folder / name).write_bytes(pack_tables(tables))
    write_pt2(tail[0], torch.zeros(1, *tail[1]), folder / TAIL)
    if rates[1].points:
        write_pt2(full[0], full[1], folder / FULL)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")


def _with_accuracy(manifest: Manifest, trial: Trial) -> Manifest:
    measured = {"split_accuracy": trial.points[0].accuracy, "full_accuracy": trial.full_accuracy}
    return manifest.model_copy(update={"profile": manifest.profile.model_copy(update=measured)})


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
