"""The tail half of a split model: `Tail`, and how one is loaded from a bundle.

This is the cloud's part of the SplitModelExecutor; the edge's part is `edge_node.heads`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cloud_worker.compute import ComputeThread
from schemas.bundle import FULL, TAIL, Manifest, OperatingPoint, Part
from schemas.bundle_files import Bundle
from schemas.codecs import Codec
from schemas.errors import TensorError, UntrustedError
from schemas.messages import Answer
from schemas.probability import softmax
from schemas.tensor import Array, TensorSpec

FILES: dict[Part, str] = {"tail": TAIL, "full": FULL}


@dataclass(frozen=True, slots=True)
class Frame:
    """Samples of one node at one operating point of the manifest, each still compressed."""

    point: OperatingPoint
    payloads: tuple[bytes, ...]


Answers = tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class TailResult:
    """What a batch came to."""

    frames: tuple[Answers | Exception, ...]
    """For each frame, in order: one answer a payload, or why there are none."""
    compute_s: float
    """From the first payload decoded to the last answer, seconds."""


class Tail(Protocol):
    """Finishes frames of one model pair."""

    @property
    def manifest(self) -> Manifest:
        """The pair that it belongs to."""

    async def run(self, part: Part, frames: Sequence[Frame]) -> TailResult:
        """Finish frames of one part together, without blocking the event loop.

        A frame that cannot be finished has its exception in the result, DecodeError when its payload is not
        what its codec makes; raising fails the whole batch. The caller runs one batch at a time.
        """


class Program(Protocol):
    """A part of a model, ready to run."""

    def run(self, batch: Array) -> Array:
        """Logits, float32 (n, labels), for inputs of shape (n, ...)."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a tail runs."""

    manifest: Manifest
    codecs: Mapping[int, Codec]
    """By operating point."""
    programs: Mapping[Part, Program]


class SplitTail:
    """The tail of a bundle, and the full model where an operating point needs it, on one compute thread.

    Answers are softmax(logits / temperature) by the manifest's temperature for the part. A batch of more
    than `max_batch` samples runs in pieces.
    """

    def __init__(self, parts: Parts, thread: ComputeThread, max_batch: int) -> None:
        self._manifest, self._codecs, self._programs = parts.manifest, parts.codecs, parts.programs
        self._thread, self._max_batch = thread, max_batch

    @property
    def manifest(self) -> Manifest:
        """The pair that it belongs to."""
        return self._manifest

    async def run(self, part: Part, frames: Sequence[Frame]) -> TailResult:
        """Finish frames of one part together; see Tail.run."""
        return await self._thread.call(lambda: self._compute(part, frames))

    def _compute(self, part: Part, frames: Sequence[Frame]) -> TailResult:
        started = time.perf_counter()
        decoded = [self._decode(frame) for frame in frames]
        rows = [row for inputs in decoded if not isinstance(inputs, Exception) for row in inputs]
        answers = iter(self._answers(part, rows))
        ends = tuple(
            inputs if isinstance(inputs, Exception) else _whole(list(itertools.islice(answers, len(inputs))))
            for inputs in decoded
        )
        return TailResult(ends, time.perf_counter() - started)

    def _decode(self, frame: Frame) -> list[Array] | Exception:
        """Model inputs of each payload, or what is wrong with the first that has none."""
        codec = self._codecs[frame.point.id]
        try:
            tensors = [codec.decode(payload) for payload in frame.payloads]
            if frame.point.part == "full":
                return [self._manifest.preprocess.apply(tensor) for tensor in tensors]
        except Exception as error:  # noqa: BLE001  no payload may fail another frame, whatever a codec raises
            return error
        return tensors

    def _answers(self, part: Part, rows: list[Array]) -> list[Answer | Exception]:
        scale = self._manifest.tail_temperature if part == "tail" else self._manifest.full_temperature
        answers: list[Answer | Exception] = []
        for start in range(0, len(rows), self._max_batch):
            logits = self._programs[part].run(np.stack(rows[start : start + self._max_batch]))
            answers += (_answer(row, scale) for row in logits)
        return answers


class NoOpTail:
    """Answers label 0 with confidence 1 to every payload and computes nothing: what is left is the round trip."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    @property
    def manifest(self) -> Manifest:
        """The pair whose frames it takes."""
        return self._manifest

    async def run(self, part: Part, frames: Sequence[Frame]) -> TailResult:
        """See Tail.run; takes no time."""
        del part
        answer = Answer(label=0, confidence=1.0)
        return TailResult(tuple((answer,) * len(frame.payloads) for frame in frames), 0.0)


async def load_tail(
    bundle: Bundle, thread: ComputeThread, *, max_batch: int, trusted: bool, threads: int = 1
) -> SplitTail:
    """The bundle's tail, run once at batch 1 and at `max_batch`, on the thread where it will stay.

    `threads` is how many an operation may use, for all tails of the process.
    Raises UntrustedError unless `trusted`: torch's loader unpickles parts of a .pt2, so the file is code.
    Raises MissingFileError or DigestError when any file of the bundle, the head's too, is not the manifest's,
    BundleError when a program cannot be loaded or its inputs and outputs are not the manifest's, and ConfigError
    when a codec's configuration and tables do not fit or a library that it needs is missing.
    """
    if not trusted:
        msg = (
            f"{bundle.path} is not signed, and a .pt2 file can run any code when it is loaded; give "
            "--trust-unsigned when you built this bundle yourself or know who did"
        )
        raise UntrustedError(msg)
    parts = await thread.call(lambda: _load(bundle, max_batch, threads))
    return SplitTail(parts, thread, max_batch)


def _load(bundle: Bundle, max_batch: int, threads: int) -> Parts:
    from cloud_worker.programs import TorchProgram, use_threads  # noqa: PLC0415  torch, which only a real worker needs

    use_threads(threads)
    bundle.verify()
    manifest = bundle.manifest
    codecs = bundle.codecs()
    for point in manifest.points:
        _warm_up(codecs[point.id], manifest.spec_of(point))
    inputs = {"tail": manifest.cut, "full": manifest.preprocess.output_spec(manifest.sample)}
    programs: dict[Part, Program] = {
        part: TorchProgram(
            bundle.read(FILES[part]), FILES[part], inputs[part], labels=len(manifest.labels), max_batch=max_batch
        )
        for part in sorted({point.part for point in manifest.points})
    }
    return Parts(manifest, codecs, programs)


def _warm_up(codec: Codec, spec: TensorSpec) -> None:
    """Use a codec once, so that what it loads on first use is there, or is missed, before the first frame."""
    codec.decode(codec.encode(np.zeros(spec.shape, spec.dtype)))


def _whole(rows: list[Answer | Exception]) -> Answers | Exception:
    """A frame's answers, or the first of its exceptions."""
    answers = tuple(row for row in rows if isinstance(row, Answer))
    return answers if len(answers) == len(rows) else next(row for row in rows if isinstance(row, Exception))


def _answer(logits: Array, temperature: float) -> Answer | Exception:
    """Label and probability of one row of logits."""
    if not np.isfinite(logits).all():
        return TensorError("the logits are not finite; the payload decodes to values that the model cannot take")
    chances = softmax(logits, temperature)
    label = int(chances.argmax())
    return Answer(label=label, confidence=min(1.0, float(chances[label])))
