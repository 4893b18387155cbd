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
from cloud_worker.build.export.heads import FLOAT_HEADS, run_deployed
from cloud_worker.build.int8_trial import Int8Tried, compare_int8
from cloud_worker.build.samples.dealt import Part
from cloud_worker.programs import TorchProgram
from schemas.bundle import FULL, HEAD_INT8, TAIL, Manifest, OperatingPoint
from schemas.bundle_files import Bundle, open_bundle
from schemas.codecs import Codec
from schemas.tensor import Array

HEAD_TOLERANCE: Final = 1e-3
"""Of the largest activation."""
_SAME: Final = 1e-6
"""Of the largest logit: what another layout in memory may do to the last bit."""
_TRIED_HEADS: Final = 32
_TRIED: Final = 256
_MAX_BATCH: Final = 16


class Tried(NamedTuple):
    """One operating point on the held-out samples."""

    point: OperatingPoint
    bytes_mean: float
    kl_nats: float
    agreement: float
    """Share of the samples whose class is the unsplit model's."""
    accuracy: float | None


class Trial(NamedTuple):
    """What a whole bundle came to."""

    samples: int
    heads: dict[str, float]
    """File -> largest difference of an activation, as a share of the largest."""
    full_accuracy: float | None
    points: tuple[Tried, ...]
    int8: Int8Tried | None
    """None where the bundle has no int8 head."""


def try_bundle(folder: Path, model: nn.Module, head: nn.Module, part: Part) -> Trial:
    """Raises MismatchError, naming the file, where one answers otherwise than its module; else as `open_bundle`."""
    bundle = open_bundle(folder)
    bundle.verify()
    inputs, arrays = part.inputs[:_TRIED], part.arrays[:_TRIED]
    targets = None if part.targets is None else part.targets[:_TRIED]
    wanted = logits_of(model, inputs)
    few = inputs[:_TRIED_HEADS]
    cuts = logits_of(head, few).numpy()
    deployed = {file: run_deployed(folder, file, few) for file in FLOAT_HEADS if file in bundle.manifest.files}
    heads = {file: _head_off(file, found, cuts) for file, found in deployed.items()}
    programs = _programs(bundle)
    _check_exact(programs, model, head, few)
    shipped = logits_of(head, inputs).numpy()
    shipped[: len(few)] = next(iter(deployed.values()))
    codecs = bundle.codecs()
    points = []
    for point in bundle.manifest.points:
        given = shipped if point.part == "tail" else arrays
        arrived, sizes = _sent(codecs[point.id], given, point, bundle.manifest)
        found = torch.from_numpy(_in_batches(programs[point.part].run, arrived))
        same = float((found.argmax(1) == wanted.argmax(1)).double().mean())
        points.append(
            Tried(point, float(np.mean(sizes)), kl_nats(wanted, found), same, _accuracy(found.numpy(), targets))
        )
    int8 = _try_int8(bundle, inputs, shipped, wanted, programs) if HEAD_INT8 in bundle.manifest.files else None
    return Trial(len(inputs), heads, _accuracy(wanted.numpy(), targets), tuple(points), int8)


def _try_int8(
    bundle: Bundle, inputs: Tensor, in_float: Array, wanted: Tensor, programs: dict[str, TorchProgram]
) -> Int8Tried:
    """The int8 head beside the float one, whose cuts are given, at the bundle's first point of the tail."""
    point = next(each for each in bundle.manifest.points if each.part == "tail")
    codec = bundle.codecs()[point.id]

    def answers(cuts: Array) -> Tensor:
        return torch.from_numpy(_in_batches(programs["tail"].run, _sent(codec, cuts, point, bundle.manifest)[0]))

    in_int8 = run_deployed(bundle.path, HEAD_INT8, inputs)
    return compare_int8(point, wanted, answers(in_float), answers(in_int8))


def _head_off(file: str, found: Array, wanted: Array) -> float:
    off = largest_share_off(found, wanted)
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


def _check_exact(programs: dict[str, TorchProgram], model: nn.Module, head: nn.Module, inputs: Tensor) -> None:
    """Without a codec between them the halves are the model, sample by sample and together."""
    for batch in (inputs[:1], inputs[:_MAX_BATCH]):
        wanted = logits_of(model, batch).numpy()
        given = {"tail": logits_of(head, batch).numpy(), "full": batch.numpy()}
        for part, program in programs.items():
            off = largest_share_off(program.run(given[part]), wanted)
            if not off <= _SAME:
                msg = f"{part}.pt2 is off by {off:.2g} of the largest logit from the unsplit model; report this model"
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


def _accuracy(logits: Array, targets: Array | None) -> float | None:
    return None if targets is None else round(float((logits.argmax(axis=1) == targets).mean()), 4)
