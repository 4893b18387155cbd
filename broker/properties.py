"""Properties of a PUBLISH packet, packed by ourselves (MQTT 5.0, section 3.3.2.3).

paho's `Properties` looks every name up again on each assignment, which costs a tenth of a round trip. All that
it does with the properties of a PUBLISH is to call `pack`, so this is all that there is.
"""

from __future__ import annotations

import struct

from broker.bus import Message

_EXPIRY, _RESPONSE_TOPIC, _CORRELATION = 0x02, 0x08, 0x09


class PublishProperties:
    """The properties of one message, ready to be written."""

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


def _counted(identifier: int, data: bytes) -> bytes:
    return struct.pack(">BH", identifier, len(data)) + data


def varint(value: int) -> bytes:
    """A variable byte integer (section 1.5.5): seven bits a byte, the lowest first."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)
