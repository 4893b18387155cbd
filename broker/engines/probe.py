"""The smallest MQTT 5 client: it asks whether a broker answers a CONNECT."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Final

_CONNACK: Final = 0x20
_CONNACK_HEAD_BYTES: Final = 4  # type, length, session present, reason code
_DISCONNECT: Final = b"\xe0\x00"
_VARIABLE_HEADER: Final = b"\x00\x04MQTT\x05\x02\x00\x3c\x00"  # version 5, clean start, 60 s, no properties


def connect_packet(client_id: str) -> bytes:
    """Build an MQTT 5 CONNECT with a clean start; the client identifier has at most 100 characters of ASCII."""
    name = client_id.encode("ascii")
    body = _VARIABLE_HEADER + len(name).to_bytes(2, "big") + name
    return bytes((0x10, len(body))) + body


async def answers_mqtt5(host: str, port: int) -> bool:
    """Whether an MQTT 5 CONNECT is accepted; False when refused or cut off.

    Waits for as long as a connection is open but silent: the caller sets the time limit.
    """
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        writer.write(connect_packet(f"probe-{secrets.token_hex(4)}"))
        head = await reader.readexactly(_CONNACK_HEAD_BYTES)
        writer.write(_DISCONNECT)
    except (OSError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return head[0] == _CONNACK and head[3] == 0
