"""Size of an MQTT 5 PUBLISH packet on the socket (MQTT 5.0, section 3.3)."""

from __future__ import annotations

from broker.bus import Message

_PACKET_ID = 2
_EXPIRY = 1 + 4


def publish_size(message: Message) -> int:
    """Bytes of the whole packet: fixed header, topic, properties, payload; TCP and IP headers not included."""
    properties = 0
    if message.correlation is not None:
        properties += 1 + 2 + len(message.correlation)
    if message.response_topic is not None:
        properties += 1 + 2 + len(message.response_topic.encode())
    if message.expiry_s is not None:
        properties += _EXPIRY
    body = 2 + len(message.topic.encode()) + _varint_size(properties) + properties + len(message.payload)
    body += _PACKET_ID if message.qos else 0
    return 1 + _varint_size(body) + body


def _varint_size(value: int) -> int:
    """Bytes of a variable byte integer (section 1.5.5): seven bits a byte."""
    return max(1, (value.bit_length() + 6) // 7)
