"""Where an image file ends: a library decodes a file that is cut short or followed by more, and we do not."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Literal

Format = Literal["png", "webp", "jpeg"]

LARGEST_SIDE: Final[dict[Format, int]] = {"png": 65_536, "webp": 16_383, "jpeg": 65_500}
"""The most pixels in one direction, by format; PNG's is a tensor's largest dimension."""

_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_CHUNK: Final = struct.Struct(">I4s")
_CHUNK_CHECKSUM: Final = 4
_RIFF: Final = struct.Struct("<4sI4s")


def is_whole(format_: Format, payload: bytes) -> bool:
    """Whether the bytes are one file of the format from its first to its last byte; no pixel is decoded.

    A PNG must be of header, 8 bit data and end alone: other chunks can inflate to a thousand times their size.
    """
    if format_ == "png":
        return payload.startswith(_PNG_START) and _is_plain_png(payload)
    if format_ == "webp":
        return len(payload) >= _RIFF.size and _RIFF.unpack_from(payload) == (b"RIFF", len(payload) - 8, b"WEBP")
    return payload.startswith(b"\xff\xd8") and payload.endswith(b"\xff\xd9")


def _is_plain_png(payload: bytes) -> bool:
    bit_depth = payload[24:25]
    names = list(_png_chunks(payload))
    return bit_depth == b"\x08" and names[:1] + names[-1:] == [b"IHDR", b"IEND"] and set(names[1:-1]) == {b"IDAT"}


def _png_chunks(payload: bytes) -> Iterator[bytes]:
    """Name of each chunk; an empty one where the file breaks off."""
    place = len(_PNG_START)
    while place < len(payload):
        if place + _CHUNK.size + _CHUNK_CHECKSUM > len(payload):
            yield b""
            return
        length, name = _CHUNK.unpack_from(payload, place)
        yield name
        place += _CHUNK.size + length + _CHUNK_CHECKSUM
    if place != len(payload):
        yield b""
