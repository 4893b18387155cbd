"""A sighting as one line, for people or as a JSON object. Pure.

What comes out is bounded, and never controls a terminal but for our own colours.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from broker.fleet.sightings import UNKNOWN, Sighting
from broker.fleet.text import Paint, in_hex, printable, shortened
from schemas.messages import Reply, Status, Work

_COLOURS: Final = {
    "work": "cyan",
    "reply": "green",
    "presence": "blue",
    "stats": "grey",
    "outcome": "magenta",
    "dead letter": "red",
    UNKNOWN: "yellow",
}
_FIRST_BYTES: Final = 24
"""Shown of a message that is not understood."""
MAX_PAYLOAD_BYTES: Final = 1024
"""Shown of any message on a line for people, when its bytes are asked for."""
MAX_JSON_PAYLOAD_BYTES: Final = 128 << 10
_MAX_WHERE, _MAX_SAID, _MAX_TOPIC = 200, 1000, 4096


def line_of(seen: Sighting, at: float, paint: Paint, *, payload: bool = False) -> str:
    """Time, kind, place, facts; without a line end. `at` is in seconds since 1970, shown as local time."""
    clock = datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    what = paint(f"{seen.what:<11}", "red" if _is_bad(seen) else _COLOURS[seen.what])
    where = printable(shortened(seen.where, _MAX_WHERE))
    retained = paint("[retained] ", "yellow") if seen.message.retain else ""
    said = printable(shortened(_said(seen), _MAX_SAID))
    shown = f" | {in_hex(seen.message.payload, MAX_PAYLOAD_BYTES)}" if payload else ""
    return f"{paint(clock, 'grey')} {what} {where:<24} {retained}{said}{shown}"


def json_of(seen: Sighting, at: float, *, payload: bool = False) -> str:
    """One JSON object in ASCII on one line; `at` is in seconds since 1970, written in UTC."""
    message = seen.message
    row: dict[str, Any] = {
        "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        "kind": seen.what,
        "topic": shortened(message.topic, _MAX_TOPIC),
        **seen.levels,
        "retained": message.retain,
        "qos": message.qos,
        "size": len(message.payload),
        "correlation": message.correlation[:64].hex() if message.correlation else None,
        "message": _plain(seen),
    }
    if seen.problem:
        row["problem"] = shortened(seen.problem, _MAX_SAID)
        row["first_bytes"] = message.payload[:_FIRST_BYTES].hex()
    if payload:
        row["payload"] = message.payload[:MAX_JSON_PAYLOAD_BYTES].hex()
    return json.dumps(row)


def _said(seen: Sighting) -> str:
    first = in_hex(seen.message.payload, _FIRST_BYTES) or "nothing"
    if seen.problem:
        return f"NOT READABLE: {shortened(seen.problem, _MAX_SAID // 2)}; {len(seen.message.payload)} B: {first}"
    return f"{len(seen.message.payload)} B: {first}" if seen.what == UNKNOWN else seen.said


def _is_bad(seen: Sighting) -> bool:
    return bool(seen.problem) or (isinstance(seen.decoded, Reply) and seen.decoded.status is not Status.OK)


def _plain(seen: Sighting) -> dict[str, Any] | None:
    """The message as JSON holds it: payloads by their sizes, an interface in hex, a status by its name."""
    decoded = seen.decoded
    if decoded is None:
        return None
    if isinstance(decoded, Work):
        sizes = [len(each) for each in decoded.payloads]
        fields = {"point": decoded.point, "deadline_ms": decoded.deadline_ms, "payload_bytes": sizes}
        return {"interface": decoded.interface.hex(), **fields}
    fields = decoded.model_dump(mode="json")
    status = getattr(decoded, "status", None)
    return {**fields, "status": status.name.lower()} if isinstance(status, Status) else fields
