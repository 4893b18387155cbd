"""A model's stored profile: what every way to split it takes, so that a plan for another link measures nothing again.

One JSON file. Two extremes always stand beside the cuts: the whole model in the cloud, fed by a codec of the input, and
the whole model on the edge. Everything is for one sample at a time; milliseconds, bytes and nats as the names say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from cloud_worker.build.files import write_whole
from schemas.errors import ConfigError
from schemas.leakage import Leakage
from schemas.record import JsonFile, Record

MAX_PROFILE_BYTES: Final = 16 << 20
_SHARE_TOLERANCE: Final = 1e-3


def _printable(text: str) -> str:
    if not text.isprintable():
        msg = "has characters that cannot be shown"
        raise ValueError(msg)
    return text


def _finite(config: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        json.dumps(config, allow_nan=False)
    except ValueError:
        msg = "holds a number that JSON has not; use finite ones"
        raise ValueError(msg) from None
    return config


Label = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_printable)]
CodecId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,62}$")]
CodecConfig = Annotated[dict[str, JsonValue], AfterValidator(_finite)]
Milliseconds = Annotated[float, Field(ge=0, le=3_600_000)]
Bytes = Annotated[float, Field(gt=0, le=1 << 40)]
Macs = Annotated[int, Field(ge=0, le=1 << 60)]
Share = Annotated[float, Field(ge=0, le=1)]


class Spread(Record):
    """Median and 95th percentile of a time, in milliseconds."""

    p50: Milliseconds
    p95: Milliseconds

    @model_validator(mode="after")
    def _ordered(self) -> Spread:
        if self.p95 < self.p50:
            msg = f"p95 {self.p95:g} is below p50 {self.p50:g}"
            raise ValueError(msg)
        return self


class Place(Record):
    """What a time was measured on."""

    runtime: Label
    device: Label


class Quality(Record):
    """How good the answers are; at least one of the two is measured."""

    kl_nats: Annotated[float, Field(ge=0)] | None = None
    """Mean KL divergence of the output from the unsplit model's."""
    accuracy: Share | None = None

    @model_validator(mode="after")
    def _measured(self) -> Quality:
        if self.kl_nats is None and self.accuracy is None:
            msg = "neither kl_nats nor accuracy is measured; state one"
            raise ValueError(msg)
        return self


class CodingPoint(Record):
    """A codec with its configuration, as measured on one tensor: a cut's, or the input."""

    codec: CodecId
    config: Annotated[CodecConfig, Field(default_factory=dict)]
    bytes_mean: Bytes
    """Of the encoded tensor alone."""
    bytes_p95: Bytes
    encode_ms: Milliseconds
    """On the edge."""
    decode_ms: Milliseconds
    """In the cloud."""
    quality: Quality
    leakage: Leakage | None = None
    """Of what a worker decodes; None was not measured."""


class CutProfile(Record):
    """One place to cut: the head on the edge, the tail in the cloud, and the ways to ship what is between them."""

    index: Annotated[int, Field(ge=1, le=1_000_000)]
    """Order of the cuts from the input on; 0 is the input itself."""
    name: Label
    head_macs: Macs
    macs_share: Share
    """The head's share of the whole model's multiply-accumulates."""
    edge_ms: Spread
    """The head on the edge runtime."""
    cloud_ms: Spread
    """The tail in the cloud, one sample."""
    points: Annotated[tuple[CodingPoint, ...], Field(min_length=1, max_length=256)]


class CloudOnly(Record):
    """The whole model in the cloud; `points` encode the input."""

    cloud_ms: Spread
    points: Annotated[tuple[CodingPoint, ...], Field(min_length=1, max_length=256)]


class EdgeOnly(Record):
    """The whole model on the edge runtime; nothing is shipped."""

    edge_ms: Spread
    quality: Quality


class SplitProfile(Record):
    """The whole file. Raises ValidationError for anything that is not consistent with itself."""

    format: Literal[1] = 1
    model: Label
    full_macs: Annotated[int, Field(ge=1, le=1 << 60)]
    edge: Place
    cloud: Place
    cloud_only: CloudOnly
    edge_only: EdgeOnly
    cuts: Annotated[tuple[CutProfile, ...], Field(max_length=10_000)]
    preprocess_ms: Milliseconds = 0.0
    """Making the model's input of one sample: on the edge where a head runs, else in the cloud."""
    request_ms: Milliseconds = 0.0
    """What a shipped sample takes beyond its stages: both processes' own work, MQTT and the broker, without a link."""

    @model_validator(mode="after")
    def _consistent(self) -> SplitProfile:
        indexes = [cut.index for cut in self.cuts]
        if indexes != sorted(set(indexes)):
            msg = "the cuts' indexes do not ascend; list every cut once, from the input on"
            raise ValueError(msg)
        for cut in self.cuts:
            share = cut.head_macs / self.full_macs
            if abs(share - cut.macs_share) > _SHARE_TOLERANCE:
                msg = f"cut {cut.index} has macs_share {cut.macs_share:g}, its head_macs give {share:.4g} of full_macs"
                raise ValueError(msg)
        if not (self.has_kl or self.has_accuracy):
            msg = "candidates share no measure of quality; state kl_nats for all of them, or accuracy for all"
            raise ValueError(msg)
        return self

    @property
    def points(self) -> tuple[CodingPoint, ...]:
        """Of everything that ships: the cloud's, then each cut's."""
        return (*self.cloud_only.points, *(point for cut in self.cuts for point in cut.points))

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Of every candidate: the cloud's, each cut's points, the edge's."""
        return (*(point.quality for point in self.points), self.edge_only.quality)

    @property
    def has_ssim(self) -> bool:
        """Whether the SSIM of any point's leakage is measured."""
        return any(point.leakage is not None and point.leakage.ssim is not None for point in self.points)

    @property
    def has_kl(self) -> bool:
        """Whether every candidate's KL divergence is measured."""
        return all(quality.kl_nats is not None for quality in self.qualities)

    @property
    def has_accuracy(self) -> bool:
        """Whether every candidate's accuracy is measured."""
        return all(quality.accuracy is not None for quality in self.qualities)


def parse_profile(data: bytes) -> SplitProfile:
    """Read a profile's JSON. Raises ConfigError, naming the field and the value."""
    return JsonFile(SplitProfile, "the profile", MAX_PROFILE_BYTES, ConfigError, "this is not a profile").parse(data)


def read_profile(path: Path) -> SplitProfile:
    """Read a profile's file. Raises ConfigError, naming the file, for one that is missing, too large or wrong."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PROFILE_BYTES + 1)
    except OSError as error:
        msg = f"{path}: the profile cannot be read: {error.strerror or error}; name one that can"
        raise ConfigError(msg) from None
    try:
        return parse_profile(data)
    except ConfigError as error:
        msg = f"{path}: {error}; measure the model again, into another file"
        raise ConfigError(msg) from None


def write_profile(profile: SplitProfile, path: Path) -> None:
    """Write it whole or not at all. Raises ConfigError where it cannot be written."""
    text = profile.model_dump_json(indent=1)
    write_whole(path, f"{text}\n".encode())
