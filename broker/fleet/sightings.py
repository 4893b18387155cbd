"""One message of the bus, understood as far as it can be. Pure: a message in, facts out, never an exception."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.bus import Message
from broker.fleet import words
from schemas.errors import WireError
from schemas.messages import DeadLetter, Outcome, Presence, Reply, Stats, Work
from schemas.record import OpenRecord
from schemas.topics import Address, Topics
from schemas.wire import decode_map, decode_outcome, decode_reply, decode_work

UNKNOWN: Final = "unknown"
_LARGEST_FRAME: Final = 16 << 20
"""An inspector shows frames over the cap too: that they are is what somebody looks for."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a message is. Texts are as they came: make them printable before they are shown."""

    message: Message
    what: str
    """`work`, `reply`, `presence`, `stats`, `outcome`, `dead letter`, or `unknown` for a topic that is not ours."""
    where: str
    """Model, line and node, or whatever the topic names."""
    levels: Mapping[str, str]
    decoded: OpenRecord | None = None
    said: str = ""
    """The facts of a message that decodes, in words."""
    problem: str = ""
    """Why a message on a topic of ours does not decode."""


_READERS: Final[dict[str, tuple[Callable[[bytes], OpenRecord], Callable[[Any], str]]]] = {
    "work": (lambda data: decode_work(data, _LARGEST_FRAME), words.of_work),
    "reply": (decode_reply, words.of_reply),
    "presence": (lambda data: decode_map(Presence, data), words.of_presence),
    "stats": (lambda data: decode_map(Stats, data), words.of_stats),
    "outcome": (decode_outcome, words.of_outcome),
    "dead letter": (lambda data: decode_map(DeadLetter, data), words.of_dead_letter),
}


def sight(message: Message, topics: Topics) -> Sighting:
    """What a message is; never raises."""
    try:
        address = topics.parse(message.topic)
    except WireError:
        return Sighting(message, UNKNOWN, message.topic, {})
    where = _place(address)
    if not message.payload and message.retain:
        return Sighting(message, address.what, where, address.levels, said="cleared")
    decode, describe = _READERS[address.what]
    try:
        decoded = decode(message.payload)
    except WireError as error:
        return Sighting(message, address.what, where, address.levels, problem=str(error))
    said = describe(decoded) + _doubts(message, address, decoded)
    return Sighting(message, address.what, where, address.levels, decoded, said)


def _place(address: Address) -> str:
    levels = address.levels
    match address.what:
        case "work":
            return f"{levels['model']} {levels['line']} {levels['node']}"
        case "presence" | "stats":
            return f"{levels['kind']} {levels['id']}"
        case _:
            return " ".join(levels.values())


def _doubts(message: Message, address: Address, decoded: OpenRecord) -> str:
    """What does not fit together, each after a semicolon."""
    doubts = ""
    if isinstance(decoded, Work | Reply):
        correlation = message.correlation
        doubts += f"; correlation {correlation.hex()[-8:]}" if correlation else "; NO CORRELATION, nobody can match it"
    if isinstance(decoded, Presence | Stats) and (decoded.kind, decoded.id) != tuple(address.levels.values()):
        doubts += f"; BUT SAYS IT IS {decoded.kind} {decoded.id}"
    if isinstance(decoded, Outcome) and (decoded.node, decoded.model) != tuple(address.levels.values()):
        doubts += f"; BUT SAYS IT IS {decoded.node} {decoded.model}"
    return doubts
