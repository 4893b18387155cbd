"""What an image file says of itself, read without a library: where it ends and which size it states.

A library decodes a file that is cut short or followed by more, and may allocate by the size that it states.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Literal

from schemas.avif_files import avif_size

Format = Literal["png", "webp", "jpeg", "avif"]
Size = tuple[int, int]
"""Width and height, pixels."""

LARGEST_SIDE: Final[dict[Format, int]] = {"png": 65_536, "webp": 16_383, "jpeg": 65_500, "avif": 32_768}
"""The most pixels in one direction, by format; PNG's is a tensor's largest dimension."""

_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PNG_SIZE: Final = struct.Struct(">2I")
_CHUNK: Final = struct.Struct(">I4s")
_CHUNK_CHECKSUM: Final = 4

_RIFF: Final = struct.Struct("<4sI4s4sI")
_VP8_START: Final = b"\x9d\x01\x2a"
_WEBP_SIDE: Final = 0x3FFF

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_SEGMENT: Final = struct.Struct(">BBH")
_FRAME: Final = struct.Struct(">BHH")
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN: Final = 0xDA


def whole_size(format_: Format, payload: bytes) -> Size | None:
    """The size that the file states; None unless the bytes are one file from the first to the last.

    A PNG must be of header, 8 bit data and end alone: other chunks can inflate to a thousand times their size. An
    AVIF file must be of one still picture alone, which is coded at the size that it states.
    """
    reader = {"png": _png_size, "webp": _webp_size, "jpeg": _jpeg_size, "avif": avif_size}[format_]
    try:
        return reader(payload)
    except (struct.error, IndexError):
        return None


def _png_size(payload: bytes) -> Size | None:
    bit_depth = payload[24:25]
    names = list(_png_chunks(payload)) if payload.startswith(_PNG_START) else []
    if bit_depth != b"\x08" or names[:1] + names[-1:] != [b"IHDR", b"IEND"] or set(names[1:-1]) != {b"IDAT"}:
        return None
    width, height = _PNG_SIZE.unpack_from(payload, 16)
    return width, height


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


def _webp_size(payload: bytes) -> Size | None:
    """From the first chunk: lossy, lossless, or extended, whose canvas every frame must fill or lie in."""
    riff, length, webp, name, _ = _RIFF.unpack_from(payload)
    if (riff, length, webp) != (b"RIFF", len(payload) - 8, b"WEBP"):
        return None
    body = payload[_RIFF.size :]
    if name == b"VP8 " and body[3:6] == _VP8_START:
        width, height = struct.unpack_from("<2H", body, 6)
        return width & _WEBP_SIDE, height & _WEBP_SIDE
    if name == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & _WEBP_SIDE) + 1, (bits >> 14 & _WEBP_SIDE) + 1
    if name == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    return None


def _jpeg_size(payload: bytes) -> Size | None:
    """From the frame header, which must stand before the first scan, after segments without a byte between them."""
    if not (payload.startswith(_JPEG_START) and payload.endswith(_JPEG_END)):
        return None
    place = len(_JPEG_START)
    while True:
        mark, kind, length = _SEGMENT.unpack_from(payload, place)
        if mark != _JPEG_START[0] or kind == _SCAN:
            return None
        if kind in _FRAMES:
            _, height, width = _FRAME.unpack_from(payload, place + _SEGMENT.size)
            return width, height
        place += 2 + length
