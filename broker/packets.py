"""PUBLISH packets (MQTT 5.0, section 3.3): packing their properties, sizes, and reading them leniently.

paho's own way is slow, and it ends the connection over a property that it does not like. Brokers forward such
properties: one retained message of a stranger would keep a whole fleet out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from broker.bus import Message
from schemas.errors import DecodeError

_PACKET_ID = 2
_EXPIRY, _RESPONSE_TOPIC, _CORRELATION = 0x02, 0x08, 0x09
_FIXED = {0x01: 1, 0x02: 4, 0x23: 2}
"""Bytes of the properties of fixed size: payload format, message expiry, topic alias."""
_COUNTED = {0x03: 1, 0x08: 1, 0x09: 1, 0x26: 2}
"""How many counted strings: content type, response topic, correlation data, user property."""
_SUBSCRIPTION_ID = 0x0B
_VARINT_BYTES, _MORE = 4, 0x80


class PublishProperties:
    """The properties of one message, ready to be written; paho calls `pack` and nothing else."""

    __slots__ = ("_packed",)

    def __init__(self, message: Message) -> None:
        body = b""
        if message.expiry_s is not None:
            body += struct.pack(">BI", _EXPIRY, message.expiry_s)
        if message.response_topic is not None:
            body += _counted(_RESPONSE_TOPIC, message.response_topic.encode())
        if message.correlation is not None:
            body += _counted(_CORRELATION, message.correlation)
        self._packed = varint(len(body)) + body

    def pack(self) -> bytes:
        """The property length and the properties."""
        return self._packed


def publish_size(message: Message) -> int:
    """Bytes of the whole packet: fixed header, topic, properties, payload; TCP and IP headers not included."""
    body = 2 + len(message.topic.encode()) + len(PublishProperties(message).pack()) + len(message.payload)
    body += _PACKET_ID if message.qos else 0
    return 1 + len(varint(body)) + body


@dataclass(frozen=True, slots=True)
class Publish:
    """A PUBLISH that arrived. The message is None when what it says cannot be read."""

    packet_id: int
    """0 at QoS 0."""
    message: Message | None
    problem: str = ""


def read_publish(header: int, body: bytes) -> Publish:
    """Read the packet whose first byte is `header` and whose variable header and payload are `body`.

    Properties that splitbus does not use are skipped, whatever they say. Raises DecodeError only when not even
    the packet id can be read, so that the packet cannot be acknowledged.
    """
    qos = header >> 1 & 3
    topic_end = 2 + int.from_bytes(body[:2], "big")
    at = topic_end + (_PACKET_ID if qos else 0)
    if qos > 1 or at >= len(body):
        msg = f"a PUBLISH of {len(body)} bytes at QoS {qos} is not one that this client subscribed to"
        raise DecodeError(msg)
    packet_id = int.from_bytes(body[topic_end:at], "big")
    try:
        topic = body[2:topic_end].decode()
        used, payload_at = _read_properties(body, at)
        response_topic = used.get(_RESPONSE_TOPIC)
        message = Message(
            topic=topic,
            payload=body[payload_at:],
            qos=1 if qos else 0,
            retain=bool(header & 1),
            correlation=used.get(_CORRELATION),
            response_topic=None if response_topic is None else response_topic.decode(),
            expiry_s=int.from_bytes(used[_EXPIRY], "big") if _EXPIRY in used else None,
        )
    except (UnicodeDecodeError, DecodeError) as error:
        return Publish(packet_id, None, str(error))
    return Publish(packet_id, message)


def _read_properties(body: bytes, at: int) -> tuple[dict[int, bytes], int]:
    """The values that are used, by identifier, and where the payload begins. Raises DecodeError."""
    length, at = _read_varint(body, at)
    end = at + length
    found: dict[int, bytes] = {}
    while at < end <= len(body):
        identifier, start = body[at], at + 1
        at = _skip(body, identifier, start)
        if identifier in {_RESPONSE_TOPIC, _CORRELATION}:
            found[identifier] = body[start + 2 : at]
        elif identifier == _EXPIRY:
            found[identifier] = body[start:at]
    if at != end or end > len(body):
        msg = "the properties of a PUBLISH do not end where they say"
        raise DecodeError(msg)
    return found, end


def _skip(body: bytes, identifier: int, at: int) -> int:
    """Where the next property begins. Raises DecodeError for one that no PUBLISH has."""
    if identifier in _FIXED:
        return at + _FIXED[identifier]
    if identifier == _SUBSCRIPTION_ID:
        return _read_varint(body, at)[1]
    if identifier not in _COUNTED:
        msg = f"a PUBLISH has no property {identifier:#04x}"
        raise DecodeError(msg)
    for _ in range(_COUNTED[identifier]):
        at += 2 + int.from_bytes(body[at : at + 2], "big")
    return at


def _counted(identifier: int, data: bytes) -> bytes:
    return struct.pack(">BH", identifier, len(data)) + data


def varint(value: int) -> bytes:
    """A variable byte integer (section 1.5.5): seven bits a byte, the lowest first."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (_MORE if value else 0))
        if not value:
            return bytes(out)


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    """Value and end of a variable byte integer. Raises DecodeError when it does not end."""
    value = 0
    for index, byte in enumerate(body[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < _MORE:
            return value, at + index + 1
    msg = "a variable byte integer of a PUBLISH does not end"
    raise DecodeError(msg)
