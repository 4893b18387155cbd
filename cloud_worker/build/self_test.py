"""Whether a written bundle answers as the unsplit model: opened as it will be, on samples that fitted nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cloud_worker.build.codecs.rates import kl_nats, logits_of
from cloud_worker.build.export.agree import MismatchError, largest_share_off
from cloud_worker.build.export.heads import FLOAT_HEADS, HeadTensors, run_deployed
from cloud_worker.build.halves import Halves
from cloud_worker.build.int8_trial import Int8Tried, compare_int8
from cloud_worker.build.samples.dealt import Part
from cloud_worker.programs import TorchProgram
from schemas.bundle import FULL, HEAD_INT8, TAIL, Manifest, OperatingPoint
from schemas.bundle_files import Bundle, open_bundle
from schemas.codecs import Codec
from schemas.errors import BundleError
from schemas.policy import TaskRoutingPolicy
from schemas.probability import softmax
from schemas.tensor import Array

HEAD_TOLERANCE: Final = 1e-3
"""Of the largest activation."""
_SAME: Final = 1e-6
"""Of the largest logit: what another layout in memory may do to the last bit."""
_TRIED_HEADS: Final = 32
_TRIED, _MOST_VALUES = 256, 1 << 22
"""Held-out samples: so many, or more where they have no more values together than this."""
_MAX_BATCH: Final = 16


class Tried(NamedTuple):
    """One operating point on the held-out samples."""

    point: OperatingPoint
    bytes_mean: float
    kl_nats: float
    agreement: float
    """Share of the samples whose class is the unsplit model's."""
    accuracy: float | None
    hybrid: Answered | None
    """Where there is an exit: its sure answers, and this point's for the rest."""


class Answered(NamedTuple):
    """How often answers are the unsplit model's, and right where that is known."""

    agreement: float
    accuracy: float | None


class TriedExit(NamedTuple):
    """The early exit on the held-out samples."""

    everywhere: Answered
    """If it answered for every sample."""
    threshold: float
    coverage: float
    """Share of the samples of which it is sure."""
    sure: Answered | None
    """On these; None when there are none."""


class Trial(NamedTuple):
    """What a whole bundle came to."""

    samples: int
    heads: dict[str, float]
    """File -> largest difference of a value, as a share of the largest."""
    full_accuracy: float | None
    points: tuple[Tried, ...]
    exit: TriedExit | None
    int8: Int8Tried | None
    """None where the bundle has no int8 head."""


class _Judge:
    """Compares classes with the unsplit model's and with the true ones."""

    def __init__(self, logits: Tensor, targets: Array | None) -> None:
        self.logits, self._classes, self._targets = logits, logits.argmax(1).numpy(), targets

    def __call__(self, classes: Array, chosen: Array | None = None) -> Answered:
        """Of all samples, or of those that `chosen` bool (N,) marks."""
        at = slice(None) if chosen is None else chosen
        same = round(float((classes[at] == self._classes[at]).mean()), 4)
        right = None if self._targets is None else round(float((classes[at] == self._targets[at]).mean()), 4)
        return Answered(same, right)


def try_bundle(folder: Path, model: nn.Module, halves: Halves, part: Part) -> Trial:
    """Raises MismatchError, naming the file, where one answers otherwise than its module; else as `open_bundle`."""
    bundle = open_bundle(folder)
    bundle.verify()
    most = max(_TRIED, _MOST_VALUES // part.inputs[0].numel())
    inputs, arrays = part.inputs[:most], part.arrays[:most]
    whole = logits_of(model, inputs)
    if not whole.isfinite().all():
        msg = f"the model's answer to one of {len(inputs)} held-out samples is not finite; look at the model"
        raise BundleError(msg)
    judge = _Judge(whole, None if part.targets is None else part.targets[:most])
    few = inputs[:_TRIED_HEADS]
    wanted = halves.run_head(inputs)
    deployed = {file: run_deployed(folder, file, few) for file in FLOAT_HEADS if file in bundle.manifest.files}
    heads = {file: _head_off(file, found, wanted) for file, found in deployed.items()}
    programs = _programs(bundle)
    _check_exact(programs, model, halves, few)
    wanted.cuts[: len(few)] = next(iter(deployed.values())).cuts
    local = None if wanted.logits is None else _Local(bundle.manifest, wanted.logits)
    codecs = bundle.codecs()
    points = []
    for point in bundle.manifest.points:
        given = wanted.cuts if point.part == "tail" else arrays
        arrived, sizes = _sent(codecs[point.id], given, point, bundle.manifest)
        found = torch.from_numpy(_in_batches(programs[point.part].run, arrived))
        classes = found.argmax(1).numpy()
        hybrid = None if local is None else judge(np.where(local.sure, local.classes, classes))
        divergence = kl_nats(judge.logits, found)
        points.append(Tried(point, float(np.mean(sizes)), divergence, *judge(classes), hybrid))
    int8 = None
    if HEAD_INT8 in bundle.manifest.files:
        int8 = _try_int8(bundle, inputs, wanted.cuts, judge.logits, programs)
    full = judge(judge.logits.argmax(1).numpy()).accuracy
    return Trial(len(inputs), heads, full, tuple(points), local.tried(judge) if local else None, int8)


def _try_int8(
    bundle: Bundle, inputs: Tensor, in_float: Array, wanted: Tensor, programs: dict[str, TorchProgram]
) -> Int8Tried:
    """The int8 head beside the float one, whose cuts are given, at the bundle's first point of the tail."""
    point = next(each for each in bundle.manifest.points if each.part == "tail")
    codec = bundle.codecs()[point.id]

    def answers(cuts: Array) -> Tensor:
        return torch.from_numpy(_in_batches(programs["tail"].run, _sent(codec, cuts, point, bundle.manifest)[0]))

    in_int8 = run_deployed(bundle.path, HEAD_INT8, inputs).cuts
    return compare_int8(point, wanted, answers(in_float), answers(in_int8))


class _Local:
    """What the exit says of each sample, and of which it is sure."""

    def __init__(self, manifest: Manifest, logits: Array) -> None:
        calibrated = manifest.exit
        temperature = calibrated.temperature if calibrated else 1.0
        told = calibrated.threshold if calibrated else None
        self.threshold = TaskRoutingPolicy().confidence_threshold if told is None else told
        self.classes = logits.argmax(axis=1)
        self.sure = softmax(logits, temperature).max(axis=1) >= self.threshold

    def tried(self, judge: _Judge) -> TriedExit:
        sure = judge(self.classes, self.sure) if self.sure.any() else None
        return TriedExit(judge(self.classes), self.threshold, round(float(self.sure.mean()), 4), sure)


def _head_off(file: str, found: HeadTensors, wanted: HeadTensors) -> float:
    count = len(found.cuts)
    off = largest_share_off(found.cuts, wanted.cuts[:count])
    if wanted.logits is not None and found.logits is not None:
        off = max(off, largest_share_off(found.logits, wanted.logits[:count]))
    if not off <= HEAD_TOLERANCE:
        msg = f"{file} is off by {off:.2g} of the largest activation, allowed are {HEAD_TOLERANCE:g}; cut elsewhere"
        raise MismatchError(msg)
    return off


def _programs(bundle: Bundle) -> dict[str, TorchProgram]:
    """As a worker loads them: run at batch 1 and at its largest."""
    manifest = bundle.manifest
    specs = {"tail": manifest.cut, "full": manifest.preprocess.output_spec(manifest.sample)}
    files = {"tail": TAIL, "full": FULL}
    return {
        part: TorchProgram(
            bundle.read(files[part]), files[part], specs[part], labels=len(manifest.labels), max_batch=_MAX_BATCH
        )
        for part in sorted({point.part for point in manifest.points})
    }


def _check_exact(programs: dict[str, TorchProgram], model: nn.Module, halves: Halves, inputs: Tensor) -> None:
    """Without a codec between them the programs are their modules, and the model's own halves are the model.

    Sample by sample and together.
    """
    for batch in (inputs[:1], inputs[:_MAX_BATCH]):
        cuts = torch.from_numpy(halves.run_head(batch).cuts)
        whole = logits_of(model, batch)
        expected = {"tail": whole if halves.learnt is None else halves.run_tail(cuts), "full": whole}
        given = {"tail": cuts.numpy(), "full": batch.numpy()}
        for part, program in programs.items():
            off = largest_share_off(program.run(given[part]), expected[part].numpy())
            if not off <= _SAME:
                msg = f"{part}.pt2 is off by {off:.2g} of the largest logit from what it was made of; report this model"
                raise MismatchError(msg)


def _sent(codec: Codec, tensors: Array, point: OperatingPoint, manifest: Manifest) -> tuple[Array, list[int]]:
    """What arrives, ready for the program, and the bytes of each payload."""
    payloads = [codec.encode(each) for each in tensors]
    decoded = [codec.decode(payload) for payload in payloads]
    if point.part == "full":
        decoded = [manifest.preprocess.apply(each) for each in decoded]
    return np.stack(decoded), [len(payload) for payload in payloads]


def _in_batches(run: Callable[[Array], Array], inputs: Array) -> Array:
    return np.concatenate([run(inputs[start : start + _MAX_BATCH]) for start in range(0, len(inputs), _MAX_BATCH)])
