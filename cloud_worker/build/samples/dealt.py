"""Samples dealt to disjoint parts by their content, with their classes where these are known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from cloud_worker.build.measure.data import Data, Images
from cloud_worker.build.samples.files import Sample
from schemas.errors import ConfigError, SampleError
from schemas.preprocess import Preprocess
from schemas.record import explain
from schemas.tensor import Array, TensorSpec

CALIBRATION_SHARE: Final = 0.7
LEARNING_SHARES: Final = (0.5, 0.35)
"""To learn from and to calibrate on, where a fit has no samples of its own; the rest is held out."""
CHOOSING: Final = slice(0, None, 2)
"""Of the calibration samples, where there is an exit: those that choose the cut and fit the exit's temperature."""
PROMISING: Final = slice(1, None, 2)
"""The others, which certify it: nothing that the exit depends on may come from them."""
_MEASURED: Final = slice(0, None, 3)
"""Of the samples that choose: those that everything is measured on. The rest fits."""
LEAST_LEARNING: Final = 32
LEAST_CALIBRATION: Final = 8
LEAST_HELD_OUT: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Samples of one part, in order of their digest."""

    names: tuple[str, ...]
    arrays: Array
    """(N, ...) as the manifest's `sample` spec states them."""
    inputs: Tensor
    """float32 (N, ...), preprocessed: what the model takes."""
    targets: Array | None
    """int64 (N,), the true classes, where they are known."""

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class SampleSet:
    """What a bundle is learnt from, calibrated on, and tried on; no sample is in two of them."""

    spec: TensorSpec
    preprocess: Preprocess
    calibration: Part
    held_out: Part
    repeated: int
    """Samples left out because another has the same content."""
    learning: Part | None = None
    """For a fit alone."""

    def as_data(self) -> Data:
        """What chooses the cut, as `measure` takes it: calibration samples alone, and of a fit only those of CHOOSING.

        So what was chosen is tried on samples that had no part in it, and certified with such.
        """
        part, images = self.calibration, None
        rows = np.arange(len(part))[CHOOSING if self.learning else slice(None)]
        measured = rows[_MEASURED]
        fitted = np.setdiff1d(rows, measured)
        if self.preprocess.kind == "image" and self.spec.shape[2] in {1, 3}:
            images = Images(part.arrays[fitted], part.arrays[measured], self.preprocess)
        inputs, targets = part.inputs.numpy(), None if part.targets is None else part.targets[measured]
        return Data(inputs[fitted], inputs[measured], targets, images)


def deal(
    samples: Sequence[Sample], preprocess: Preprocess, targets: Sequence[int] | None, *, learning: bool = False
) -> SampleSet:
    """All parts; which one a sample goes to follows from its content alone, so another sample moves none.

    Raises SampleError when a part gets too few different samples, ConfigError when preprocessing does not fit them.
    """
    spec = _spec_of(samples[0])
    preprocess.output_spec(spec)
    of_digest = {_digest(each.array): index for index, each in enumerate(samples)}
    shares = LEARNING_SHARES if learning else (0.0, CALIBRATION_SHARE)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for digest, index in sorted(of_digest.items()):
        place = digest[0] / 256
        parts[sum(place >= limit for limit in (shares[0], sum(shares)))].append(index)
    _check_parts([len(part) for part in parts], learning=learning)
    made = [_part([samples[index] for index in part], preprocess, _picked(targets, part)) for part in parts if part]
    return SampleSet(spec, preprocess, made[-2], made[-1], len(samples) - len(of_digest), made[0] if learning else None)


def learning_part(samples: Sequence[Sample], dealt: SampleSet, targets: Sequence[int] | None) -> Part:
    """Samples of a folder of their own to learn from, without those that are calibrated on or held out.

    Raises SampleError for samples of another kind, and when too few are left.
    """
    first = samples[0].array
    if (str(first.dtype), first.shape) != (dealt.spec.dtype, dealt.spec.shape):
        msg = f"--fit-samples: {samples[0].name} is {first.dtype}{list(first.shape)}, --samples are {dealt.spec}"
        raise SampleError(f"{msg}; make all samples alike")
    others = {_digest(array) for part in (dealt.calibration, dealt.held_out) for array in part.arrays}
    kept = [index for index, each in enumerate(samples) if _digest(each.array) not in others]
    if len(kept) < LEAST_LEARNING:
        msg = f"--fit-samples: {len(kept)} samples are left that are not among --samples; {LEAST_LEARNING} are needed"
        raise SampleError(msg)
    return _part([samples[index] for index in kept], dealt.preprocess, _picked(targets, kept))


def _spec_of(sample: Sample) -> TensorSpec:
    try:
        return TensorSpec.model_validate({"dtype": str(sample.array.dtype), "shape": sample.array.shape})
    except ValidationError as error:
        fact = f"{sample.name} is {sample.array.dtype}{list(sample.array.shape)}, which cannot be sent"
        msg = f"{fact} ({explain(error)}); cut such samples into windows, or reshape them"
        raise SampleError(msg) from None


def _digest(array: Array) -> bytes:
    return hashlib.sha256(array.tobytes()).digest()


def _check_parts(counts: Sequence[int], *, learning: bool) -> None:
    least = (LEAST_LEARNING if learning else 0, LEAST_CALIBRATION, LEAST_HELD_OUT)
    if all(count >= wanted for count, wanted in zip(counts, least, strict=True)):
        return
    learnt = f"{counts[0]} of them to learn from, " if learning else ""
    needed = ", ".join(str(each) for each in least if each)
    msg = (
        f"there are {sum(counts)} different samples, {learnt}{counts[1]} to calibrate on and {counts[2]} to try; "
        f"{needed} are needed: give some {200 if learning else 24}, better {2000 if learning else 200}"
    )
    raise SampleError(msg)


def _part(samples: Sequence[Sample], preprocess: Preprocess, targets: Array | None) -> Part:
    arrays = np.stack([each.array for each in samples])
    inputs = torch.from_numpy(np.stack([preprocess.apply(array) for array in arrays]))
    return Part(tuple(each.name for each in samples), arrays, inputs, targets)


def _picked(targets: Sequence[int] | None, part: Sequence[int]) -> Array | None:
    return None if targets is None else np.array([targets[index] for index in part], np.int64)


def class_names(samples: Sequence[Sample], labels: Sequence[str] | None, outputs: int) -> tuple[str, ...]:
    """What the model's outputs are called: as told, else as the sub-folders are called, else by number.

    Raises ConfigError when there are more or fewer labels than outputs.
    """
    if labels is not None:
        if len(labels) != outputs:
            msg = f"--labels names {len(labels)} classes, the model has {outputs} outputs; one name a line"
            raise ConfigError(msg)
        return tuple(labels)
    folders = _in_order({each.folder for each in samples})
    return tuple(folders) if len(folders) == outputs and all(folders) else tuple(str(n) for n in range(outputs))


def targets_of(
    samples: Sequence[Sample], labels: Sequence[str], file: Path | None, option: str = "--targets"
) -> tuple[int, ...] | None:
    """The class of each sample: of the file's lines, else by sub-folder; None when neither says so.

    Raises ConfigError for a file that cannot be read, has another number of lines, or names an unknown class.
    """
    number = {name: index for index, name in enumerate(labels)}
    number.update({str(index): index for index in range(len(labels)) if str(index) not in number})
    if file is None:
        found = [number.get(each.folder) if each.folder else None for each in samples]
        return None if None in found else tuple(each for each in found if each is not None)
    lines = read_lines(file, option)
    if len(lines) != samples[0].among:
        fact = f"{option} {file} has {len(lines)} lines, there are {samples[0].among} samples"
        msg = f"{fact}; one class a line, for those that are not taken too"
        raise ConfigError(msg)
    unknown = next((line for line in lines if line not in number), None)
    if unknown is not None:
        msg = f"{option} {file} names {unknown!r}, which is none of the {len(labels)} classes; give --labels too"
        raise ConfigError(msg)
    return tuple(number[lines[each.place]] for each in samples)


def read_lines(file: Path, option: str) -> list[str]:
    """Lines of a text file that are not empty. Raises ConfigError, naming the option."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{option} {file} cannot be read ({error}); give a text file, one name a line"
        raise ConfigError(msg) from None
    return [line for line in lines if line]


def _in_order(names: set[str]) -> list[str]:
    numbers = all(name.isdecimal() for name in names)
    return sorted(names, key=int) if numbers else sorted(names)
