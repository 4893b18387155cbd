"""Everything that is said over the bus, as immutable models. `wire` turns them into bytes and back."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, Literal

from pydantic import Field

from schemas.policy import PrivacyLevel, Route
from schemas.record import LAX, OpenRecord, member_of, shortened

MAX_BURST = 64
UInt32 = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
Confidence = Annotated[float, Field(ge=0, le=1)]
Short = Annotated[str, Field(max_length=64)]
Text = Annotated[str, Field(max_length=512), shortened(512)]
"""Words for people: never refused for its length, since a message must not fail because of its detail."""
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Work(OpenRecord):
    """One frame: samples of one node at one operating point, to be finished before a deadline."""

    interface: Annotated[bytes, Field(min_length=8, max_length=8)]
    """First 8 bytes of the interface digest that the head belongs to."""
    point: Annotated[int, Field(ge=0, le=255)]
    """Operating point: which codec the payloads are in and which part finishes them."""
    deadline_ms: Annotated[int, Field(ge=1, le=3_600_000)]
    """Time left when the frame was sent."""
    payloads: Annotated[tuple[bytes, ...], Field(min_length=1, max_length=MAX_BURST), LAX]
    """One compressed tensor a sample."""


class Status(IntEnum):
    """How a worker ended a frame; every value but OK comes with a detail."""

    OK = 0
    OVERLOADED = 1
    EXPIRED = 2
    INTERFACE_MISMATCH = 3
    BAD_FRAME = 4
    UNKNOWN_POINT = 5
    FAILED = 6


WireStatus = Annotated[Status, LAX, member_of(int)]


class Answer(OpenRecord):
    """A label's index and its probability."""

    label: Annotated[int, Field(ge=0, le=65_535)]
    confidence: Confidence


class Reply(OpenRecord):
    """What a worker says to one frame."""

    status: WireStatus
    answers: Annotated[tuple[Answer, ...], Field(max_length=MAX_BURST), LAX] = ()
    """One a payload, in order, when the status is OK; else none."""
    queue_us: UInt32 = 0
    """Time from receipt to the start of its batch."""
    compute_us: UInt32 = 0
    """This frame's share of its batch's compute time."""
    batch: Annotated[int, Field(ge=0, le=65_535)] = 0
    """How many samples ran together."""
    detail: Text = ""


class PresenceState(StrEnum):
    """Where a process is in its life; OFFLINE is what the broker says in its stead."""

    ONLINE = "online"
    DRAINING = "draining"
    STUCK = "stuck"
    STOPPED = "stopped"
    OFFLINE = "offline"


class Served(OpenRecord):
    """A model line that a process runs."""

    model: Id
    line: Short
    version: Short
    interface: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Presence(OpenRecord):
    """Birth, or death, of an edge node or a worker; retained."""

    kind: Literal["edge", "worker"]
    id: Id
    session: Id
    """Stamp of one connection: a death counts only for the birth with the same stamp."""
    state: Annotated[PresenceState, LAX, member_of(str)]
    serves: Annotated[tuple[Served, ...], Field(max_length=64), LAX] = ()
    software: Text = ""


class Stats(OpenRecord):
    """Counters since the start of a process, and gauges of this moment."""

    kind: Literal["edge", "worker"]
    id: Id
    uptime_s: Annotated[float, Field(ge=0)]
    counters: Annotated[dict[Short, Count], Field(max_length=64, default_factory=dict)]
    gauges: Annotated[dict[Short, float], Field(max_length=64, default_factory=dict)]


class DeadLetter(OpenRecord):
    """What a worker refused: the envelope, never the payload."""

    worker: Id
    topic: Text
    size: UInt32
    status: WireStatus
    detail: Text


class Scores(OpenRecord):
    """The router's four factors and their weighted sum, each in [0, 1]; higher prefers the edge."""

    privacy: Confidence
    latency: Confidence
    cost: Confidence
    complexity: Confidence
    edge_preference: Confidence


class StageTimes(OpenRecord):
    """Where a request's time went, in milliseconds; 0 for a stage that it did not pass."""

    preprocess: float = 0.0
    head: float = 0.0
    encode: float = 0.0
    cloud_wait: float = 0.0
    """From publishing the frame to the reply, link and broker and worker together."""
    cloud_queue: float = 0.0
    cloud_compute: float = 0.0
    total: float = 0.0


class Outcome(OpenRecord):
    """How one request ended: exactly one for each request."""

    node: Id
    request: Text
    model: Id
    label: int | None
    """None when there is no answer at all: a head without an exit, and no cloud."""
    label_name: Text
    confidence: Confidence
    source: Literal["edge", "cloud", "none"]
    """Which half's answer this is; `none` when there is no answer."""
    route: Annotated[Route, LAX, member_of(str)]
    reason: Text
    scores: Scores | None
    privacy: Annotated[PrivacyLevel, LAX, member_of(str)]
    escalated: bool
    """Whether anything was shipped after the edge had an answer of its own."""
    cloud_status: Short
    """Status of the cloud's reply; `none` when nothing was shipped, `timeout` when nothing came back."""
    edge_version: Short
    cloud_version: Short
    interface: Short
    attempts: int
    """Frames sent for this request."""
    payload_bytes: int
    """Compressed tensor bytes of one frame; 0 when nothing was shipped."""
    bytes_up: int
    """MQTT packet bytes of all frames sent."""
    bytes_down: int
    batch: int
    cost: float
    """US dollars at the policy's prices."""
    deadline_ms: float
    times_ms: StageTimes
    point: int | None = None
    """The operating point of the frame; None when nothing was sent."""
