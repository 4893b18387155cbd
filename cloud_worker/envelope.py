"""From a delivery to a frame that can be run: every check, and a status for everything that does not pass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from broker.bus import Message
from cloud_worker.tails import Frame, Tail
from schemas.errors import DecodeError, InterfaceMismatchError, SplitbusError, WireError
from schemas.messages import Status, Work
from schemas.topics import Topics
from schemas.wire import decode_work

MAX_CORRELATION = 64
"""Bytes of correlation data that are echoed; our own nodes use 8."""
_PLAIN_TOPIC = re.compile(r"[A-Za-z0-9_.~/-]{1,256}", re.ASCII)

LineKey = tuple[str, str]
"""Model and line."""


class UnanswerableError(SplitbusError):
    """A frame whose sender cannot be told; internal to the worker."""


class RefusedError(SplitbusError):
    """A frame that ends with a status other than OK; internal to the worker."""

    def __init__(self, status: Status, detail: str) -> None:
        self.status = status
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where a frame is for, and where its reply goes."""

    line: LineKey
    correlation: bytes
    reply_topic: str
    foreign_response_topic: bool
    """Whether it asked for a reply in a place that is not its node's."""


def read_envelope(message: Message, topics: Topics) -> Envelope:
    """Everything but the payload. Raises UnanswerableError when there is nobody to reply to."""
    correlation = message.correlation
    if not correlation or len(correlation) > MAX_CORRELATION:
        size = len(correlation or b"")
        msg = f"the frame has {size} bytes of correlation data; send 1 to {MAX_CORRELATION}, different for each request"
        raise UnanswerableError(msg)
    try:
        address = topics.parse(message.topic)
    except DecodeError as error:
        raise UnanswerableError(str(error)) from None
    if address.what != "work":
        msg = f"{message.topic!r} carries a {address.what}; send frames to a work topic"
        raise UnanswerableError(msg)
    levels = address.levels
    own = topics.reply(levels["node"])
    wanted = message.response_topic or own
    honoured = _PLAIN_TOPIC.fullmatch(wanted) is not None and (wanted == own or wanted.startswith(f"{own}/"))
    return Envelope((levels["model"], levels["line"]), correlation, wanted if honoured else own, not honoured)


def read_work(payload: bytes, cap: int) -> Work:
    """The frame. Raises RefusedError with BAD_FRAME when it is truncated, too large or of another wire version."""
    try:
        return decode_work(payload, cap)
    except WireError as error:
        raise RefusedError(Status.BAD_FRAME, str(error)) from None


def admit(work: Work, line: LineKey, tails: Mapping[LineKey, Tail]) -> tuple[Tail, Frame]:
    """What finishes the frame. Raises RefusedError with INTERFACE_MISMATCH or UNKNOWN_POINT.

    No frame is ever given to a tail of another interface than the frame states.
    """
    model, version = line
    tail = tails.get(line)
    if tail is None:
        msg = f"this worker does not serve {model} {version}; deploy a worker for that line"
        raise RefusedError(Status.FAILED, msg)
    manifest = tail.manifest
    if work.interface != manifest.frame_digest:
        remedy = f"roll out one pair of {model} {version} to nodes and workers"
        mismatch = InterfaceMismatchError(ours=manifest.frame_digest.hex(), theirs=work.interface.hex(), remedy=remedy)
        raise RefusedError(Status.INTERFACE_MISMATCH, str(mismatch))
    point = manifest.point(work.point)
    if point is None:
        known = ", ".join(str(each.id) for each in manifest.points)
        msg = f"{model} {version} has no operating point {work.point}; it has {known}"
        raise RefusedError(Status.UNKNOWN_POINT, msg)
    return tail, Frame(point, work.payloads)
