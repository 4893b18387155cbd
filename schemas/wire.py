"""Between messages and bytes: sizes are checked before anything is allocated.

Work and Reply are msgpack arrays in a fixed order, since bytes matter there; everything else is a msgpack
map with the fields' names as keys, but for Outcome, which is JSON for other people's tools. Trailing array
items and unknown map keys are ignored; an array's first item is the wire version. Nothing is ever retyped.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

import msgpack
from pydantic import ValidationError

from schemas.errors import DecodeError, TooLargeError
from schemas.messages import MAX_BURST, Outcome, Reply, Work
from schemas.record import OpenRecord, explain

WIRE_VERSION: Final = 1
MAX_FRAME_BYTES: Final = 64 * 1024
"""Default cap of a whole MQTT payload: the smallest common limit of a cloud's broker."""
MAX_CONTROL_BYTES: Final = 64 * 1024
MAX_ITEMS: Final = 256
"""The longest array or map in any message."""

M = TypeVar("M", bound=OpenRecord)


def encode_work(work: Work, cap: int = MAX_FRAME_BYTES) -> bytes:
    """`[version, interface, point, deadline_ms, [payload, ...]]`. Raises TooLargeError over `cap` bytes."""
    data = _pack([WIRE_VERSION, work.interface, work.point, work.deadline_ms, list(work.payloads)])
    if len(data) > cap:
        remedy = "choose an operating point with a lower rate, or raise the cap on both sides and in the broker"
        raise TooLargeError("the frame", len(data), cap, remedy)
    return data


def decode_work(data: bytes, cap: int = MAX_FRAME_BYTES) -> Work:
    """Inverse of `encode_work`. Raises TooLargeError or DecodeError; never anything else."""
    items = _array(data, cap, least=5, what="work")
    return _validated(Work, {"interface": items[1], "point": items[2], "deadline_ms": items[3], "payloads": items[4]})


def encode_reply(reply: Reply) -> bytes:
    """`[version, status, [label, confidence, ...], queue_us, compute_us, batch, detail?]`.

    Confidences travel as float32; the detail is left out when it is empty.
    """
    flat: list[float] = []
    for answer in reply.answers:
        flat += (answer.label, answer.confidence)
    items: list[Any] = [WIRE_VERSION, int(reply.status), flat, reply.queue_us, reply.compute_us, reply.batch]
    return _pack([*items, reply.detail] if reply.detail else items)


def decode_reply(data: bytes) -> Reply:
    """Inverse of `encode_reply`, to the precision of float32. Raises TooLargeError or DecodeError."""
    items = _array(data, MAX_CONTROL_BYTES, least=6, what="reply")
    flat = items[2]
    if not isinstance(flat, list) or len(flat) % 2 or len(flat) > 2 * MAX_BURST:
        msg = "the reply's answers are not pairs of label and confidence"
        raise DecodeError(msg)
    return _validated(
        Reply,
        {
            "status": items[1],
            "answers": [{"label": a, "confidence": b} for a, b in zip(flat[::2], flat[1::2], strict=True)],
            "queue_us": items[3],
            "compute_us": items[4],
            "batch": items[5],
            **({"detail": items[6]} if items[6:] else {}),
        },
    )


def encode_map(message: OpenRecord) -> bytes:
    """A control message as a msgpack map; floats keep all their digits."""
    return cast("bytes", msgpack.packb(message.model_dump(mode="json")))


def decode_map(model: type[M], data: bytes) -> M:
    """Inverse of `encode_map`. Raises TooLargeError or DecodeError; never anything else."""
    value = unpack_value(data, MAX_CONTROL_BYTES)
    if not isinstance(value, dict):
        msg = f"{model.__name__} is a map, got {type(value).__name__}"
        raise DecodeError(msg)
    return _validated(model, value)


def encode_outcome(outcome: Outcome) -> bytes:
    """An outcome as one line of JSON in UTF-8."""
    return outcome.model_dump_json().encode()


def decode_outcome(data: bytes) -> Outcome:
    """Inverse of `encode_outcome`. Raises TooLargeError or DecodeError."""
    if len(data) > MAX_CONTROL_BYTES:
        raise TooLargeError("the outcome", len(data), MAX_CONTROL_BYTES, "this is not an outcome")
    try:
        return Outcome.model_validate_json(data)
    except ValidationError as error:
        msg = f"not an outcome: {explain(error)}"
        raise DecodeError(msg) from None


def _pack(value: object) -> bytes:
    return cast("bytes", msgpack.packb(value, use_single_float=True))


def unpack_value(data: bytes, cap: int) -> object:
    """One msgpack value of at most `cap` bytes, no array or map in it longer than MAX_ITEMS.

    Raises TooLargeError before anything is read, or DecodeError; never anything else.
    """
    if len(data) > cap:
        raise TooLargeError("the message", len(data), cap, "send less in one message, or raise the cap on both sides")
    try:
        return msgpack.unpackb(
            data,
            max_bin_len=cap,
            max_str_len=4096,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
            strict_map_key=True,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        msg = f"not a whole msgpack value: {error or type(error).__name__}"
        raise DecodeError(msg) from None


def _array(data: bytes, cap: int, *, least: int, what: str) -> list[Any]:
    value = unpack_value(data, cap)
    if not isinstance(value, list) or len(value) < least:
        msg = f"{what} is an array of {least} items or more, got {type(value).__name__}"
        raise DecodeError(msg)
    if type(value[0]) is not int or value[0] != WIRE_VERSION:
        msg = f"{what} has wire version {value[0]!r:.20}, this release speaks {WIRE_VERSION}; update the older side"
        raise DecodeError(msg)
    return value


def _validated(model: type[M], value: dict[str, Any]) -> M:
    try:
        return model.model_validate(value)
    except (ValidationError, RecursionError) as error:
        reason = explain(error) if isinstance(error, ValidationError) else "nested too deep"
        msg = f"not a valid {model.__name__}: {reason}"
        raise DecodeError(msg) from None
