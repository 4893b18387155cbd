"""What one deployable model pair is: a folder or a zip file with `manifest.json` and the files it names.

Edge and cloud agree exactly when their interface digests are equal. The digest covers everything that
both halves must share: samples, preprocessing, the cut, every operating point with its codec tables, the
labels, and the pairing id, which is a digest over the weights of every part that may answer: head, tail, and
the unsplit model where an operating point uses it.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from schemas.certificate import CERTIFICATE
from schemas.codecs import codec_class, open_codec
from schemas.codecs.input import Input, InputConfig
from schemas.errors import ConfigError, ManifestError
from schemas.leakage import Leakage
from schemas.preprocess import Preprocess
from schemas.record import JsonFile, Record, explain
from schemas.tensor import TensorSpec
from schemas.version import Version

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
FRAME_DIGEST_BYTES = 8
_SEALING = object()
"""Validation context of a manifest whose interface is not computed yet."""

HEAD_TFLITE, HEAD_NUMPY, TAIL, FULL = "head.tflite", "head.npz", "tail.pt2", "full.pt2"
HEAD_INT8 = "head.int8.tflite"
"""Beside `head.tflite`, and run only on request."""
TABLES = "codec.tables"
"""What a file of codec tables is usually called; operating points name theirs."""

NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$")]
Hex256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Part = Literal["tail", "full"]
"""What finishes a frame: the tail a cut, the whole model an input."""


class OperatingPoint(Record):
    """One way to ship a frame: which part finishes it, through which codec. A frame names it by `id`."""

    id: Annotated[int, Field(ge=0, le=255)]
    part: Part
    codec: str
    config: Annotated[dict[str, Any], Field(default_factory=dict)]
    tables: FileName | None = None
    """The file of the bundle that holds the codec's tables, when it needs some; points may share one."""
    mean_bytes: Positive | None = None
    """Mean payload on the calibration samples, bytes; what the router predicts with."""
    leakage: Leakage | None = None
    """What its payloads were found to show of the sample, at least; what a policy's `max_ssim` is held against."""

    @property
    def ssim(self) -> float | None:
        """Of the sample as payloads show it: 1 where they hold the sample whole, else as measured, None if it was not.

        Raises ValidationError for a configuration that is none of the codec's; a manifest has no such point.
        """
        if self.part == "full" and self.codec == Input.id and InputConfig.model_validate(self.config).lossless:
            return 1.0
        return None if self.leakage is None else self.leakage.ssim


class Exit(Record):
    """The early exit's calibration: an answer is sure when softmax(logits / temperature) >= threshold."""

    temperature: Positive
    threshold: Share | None = None
    """None where the calibration samples support none: the node then takes its policy's `confidence_threshold`."""
    coverage: Share | None = None
    """Share of the calibration samples that are sure; None without a threshold."""
    certified: bool = False
    """Whether `certificate.json` says what the threshold promises; else it is the calibration samples' best guess."""

    @model_validator(mode="after")
    def _consistent(self) -> Exit:
        if (self.threshold is None) != (self.coverage is None):
            msg = f"threshold is {self.threshold} and coverage {self.coverage}; give both, or neither"
            raise ValueError(msg)
        if self.certified and self.threshold is None:
            msg = "certified is true without a threshold; give the certificate's"
            raise ValueError(msg)
        return self


class Profile(Record):
    """What was measured when the bundle was built."""

    head_macs: Annotated[int, Field(ge=0)]
    """Multiply-accumulates for one sample: the head with its exit."""
    tail_macs: Annotated[int, Field(ge=0)]
    full_macs: Annotated[int, Field(ge=0)]
    exit_accuracy: Share | None = None
    """On the validation samples, as are the two below."""
    split_accuracy: Share | None = None
    full_accuracy: Share | None = None


class FileEntry(Record):
    """Size and digest of a file in the bundle."""

    size: Annotated[int, Field(ge=1, le=1 << 32)]
    sha256: Hex256


class Manifest(Record):
    """`manifest.json`. Raises ValidationError for anything that is not consistent with itself."""

    format: Literal[1] = 1
    name: Name
    edge_version: str
    cloud_version: str
    sample: TensorSpec
    preprocess: Preprocess
    labels: Annotated[tuple[str, ...], Field(min_length=1, max_length=65_536)]
    cut: TensorSpec
    points: Annotated[tuple[OperatingPoint, ...], Field(min_length=1, max_length=256)]
    exit: Exit | None = None
    tail_temperature: Positive = 1.0
    full_temperature: Positive = 1.0
    profile: Profile
    files: dict[FileName, FileEntry]
    pairing: Hex256
    interface: Hex256

    @field_validator("edge_version", "cloud_version")
    @classmethod
    def _is_version(cls, text: str) -> str:
        return str(Version.parse(text))

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Manifest:
        edge, cloud = Version.parse(self.edge_version), Version.parse(self.cloud_version)
        if not edge.compatible_with(cloud):
            msg = f"edge {edge} and cloud {cloud} differ in major.minor; release both halves as one line"
            raise ValueError(msg)
        if len({point.id for point in self.points}) != len(self.points):
            msg = "two operating points have the same id"
            raise ValueError(msg)
        self._files_present()
        try:
            self.preprocess.output_spec(self.sample)
            for point in self.points:
                self._check_codec(point)
            interface = self.computed_interface()
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if interface != self.interface and info.context is not _SEALING:
            msg = f"interface is {self.interface[:16]}, its parts give {interface[:16]}; rebuild the bundle"
            raise ValueError(msg)
        return self

    def _files_present(self) -> None:
        if not {HEAD_TFLITE, HEAD_NUMPY} & set(self.files):
            msg = f"files names neither {HEAD_TFLITE} nor {HEAD_NUMPY}; a bundle needs a head"
            raise ValueError(msg)
        if (self.exit is not None and self.exit.certified) != (CERTIFICATE in self.files):
            msg = f"exit.certified is true where files names {CERTIFICATE}, and there only; build the bundle again"
            raise ValueError(msg)
        program = {"tail": TAIL, "full": FULL}
        for point in self.points:
            for name in (program[point.part], point.tables):
                if name is not None and name not in self.files:
                    msg = f"operating point {point.id} needs {name}, which files does not name"
                    raise ValueError(msg)

    def _check_codec(self, point: OperatingPoint) -> None:
        """Raise ConfigError for a codec that cannot be opened; one with tables is opened with the bundle's files."""
        if point.tables is None:
            open_codec(point.codec, self.spec_of(point), point.config)
        elif not codec_class(point.codec).needs_tables:
            msg = f"operating point {point.id} names tables, which codec {point.codec} does not take; leave tables out"
            raise ConfigError(msg)

    @cached_property
    def line(self) -> str:
        """`major.minor` of the pair."""
        return Version.parse(self.edge_version).line

    @cached_property
    def frame_digest(self) -> bytes:
        """The first 8 bytes of the interface digest, as every frame carries them."""
        return bytes.fromhex(self.interface)[:FRAME_DIGEST_BYTES]

    def point(self, point_id: int) -> OperatingPoint | None:
        """The operating point of that id, or None."""
        return next((point for point in self.points if point.id == point_id), None)

    def spec_of(self, point: OperatingPoint) -> TensorSpec:
        """What the point's codec encodes: the cut tensor, or the raw sample."""
        return self.cut if point.part == "tail" else self.sample

    def computed_interface(self) -> str:
        """SHA-256, in hex, over the canonical JSON of all that both halves must share."""
        shared = {
            "cut": self.cut.model_dump(mode="json"),
            "format": self.format,
            "labels": self.labels,
            "pairing": self.pairing,
            "points": [self._shared_of(point) for point in self.points],
            "preprocess": self.preprocess.model_dump(mode="json"),
            "sample": self.sample.model_dump(mode="json"),
        }
        return hashlib.sha256(canonical_json(shared)).hexdigest()

    def _shared_of(self, point: OperatingPoint) -> dict[str, Any]:
        """What both halves must share of a point; the digest of its tables where it has some."""
        tables = {} if point.tables is None else {"tables": self.files[point.tables].sha256}
        return {"codec": point.codec, "config": point.config, "id": point.id, "part": point.part, **tables}


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys, no spaces, shortest round-trip floats: equal values give equal bytes.

    Raises ConfigError for a value that JSON cannot hold.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"a value cannot be written as JSON: {error}; use plain numbers, texts, lists and maps"
        raise ConfigError(msg) from None
    return text.encode("ascii")


def seal(fields: dict[str, Any]) -> Manifest:
    """A manifest from all fields but `interface`, which is computed. Raises ManifestError."""
    try:
        draft = Manifest.model_validate({**fields, "interface": "0" * 64}, context=_SEALING)
    except ValidationError as error:
        msg = f"the manifest does not hold together: {explain(error)}"
        raise ManifestError(msg) from None
    return draft.model_copy(update={"interface": draft.computed_interface()})


def parse_manifest(data: bytes) -> Manifest:
    """Read manifest.json. Raises ManifestError, naming the field and the value."""
    return JsonFile(Manifest, MANIFEST, MAX_MANIFEST_BYTES, ManifestError, "this is not a manifest").parse(data)
