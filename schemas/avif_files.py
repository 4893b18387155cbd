"""The size of a plain AVIF file, and whether it is one: nothing is decoded.

Two places state a size: the box `ispe`, which a library reports, and the AV1 sequence header, by which it
allocates. They may differ in a hostile file, so both are read. Boxes: ISO/IEC 14496-12 and 23008-12; the sequence
header: AV1 bitstream specification, 5.5.1.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

_BOX: Final = struct.Struct(">I4s")
_FULL: Final = 4
"""Version and flags at the start of some boxes, bytes."""
_PRIMARY_ITEM: Final = struct.Struct(">IH")
_LOCATION: Final = struct.Struct(">I2B4H2I")
_EXTENT: Final = struct.Struct(">3I")
_FILE: Final = (b"ftyp", b"meta", b"mdat")
_META: Final = frozenset({b"hdlr", b"pitm", b"iloc", b"iinf", b"iprp"})
_PROPERTIES: Final = frozenset({b"ispe", b"pixi", b"av1C", b"colr", b"clli", b"pasp"})

_SEQUENCE: Final = 1
_STILL: Final = re.compile(rb"\x02?\x01(?:\x06|\x03\x04+)")
"""Types of the units of one still picture: a delimiter, the sequence header, a frame in one piece or in several."""
_UNIT_FLAGS, _UNIT_HAS_SIZE = 0x87, 0x02
_SIZE_BYTES, _MORE, _SEVEN_BITS = 4, 0x80, 0x7F
_HEADER_BYTES: Final = 7
"""What holds the sequence header of a still picture up to its height."""


def avif_size(payload: bytes) -> tuple[int, int] | None:
    """Width and height of the one still picture that the file holds; None for any other file.

    Boxes tile the file, none comes twice or is of another kind (so neither thumbnails, grids, alpha, Exif nor
    rotation), and the one item is the whole of `mdat`, the last box: what libavif writes for a plain picture. The
    picture is coded at the size that it is said to have.
    """
    try:
        file = _boxes(payload, frozenset(_FILE))
        meta = _boxes(file[b"meta"][_FULL:], _META)
        properties = _boxes(_boxes(meta[b"iprp"], frozenset({b"ipco", b"ipma"}))[b"ipco"], _PROPERTIES)
        _, item = _PRIMARY_ITEM.unpack(meta[b"pitm"])
        _, width, height = _EXTENT.unpack(properties[b"ispe"])
        data = file[b"mdat"]
        coded = _coded_size(data)
    except (KeyError, IndexError, ValueError, struct.error):
        return None
    whole = _LOCATION.pack(0, 0x44, 0, 1, item, 0, 1, len(payload) - len(data), len(data))
    return coded if tuple(file) == _FILE and meta[b"iloc"] == whole and coded == (width, height) else None


def _boxes(data: bytes, allowed: frozenset[bytes]) -> dict[bytes, bytes]:
    """Content of each box by type. Raises ValueError or struct.error unless allowed ones, each once, tile `data`."""
    found: dict[bytes, bytes] = {}
    place = 0
    while place < len(data):
        size, name = _BOX.unpack_from(data, place)
        if name not in allowed or name in found or not _BOX.size <= size <= len(data) - place:
            raise ValueError(name)
        found[name] = data[place + _BOX.size : place + size]
        place += size
    return found


def _coded_size(data: bytes) -> tuple[int, int]:
    """Width and height in the sequence header. Raises ValueError or IndexError for anything but a still picture."""
    units = list(_units(data))
    if not _STILL.fullmatch(bytes(kind for kind, _ in units)):
        raise ValueError(units)
    header = next(content for kind, content in units if kind == _SEQUENCE)[:_HEADER_BYTES]
    bits = f"{int.from_bytes(header):0{8 * len(header)}b}"
    if bits[3:5] != "11":  # still_picture and reduced_still_picture_header, so that no frame states another size
        raise ValueError(bits)
    width_bits, height_bits = int(bits[10:14], 2) + 1, int(bits[14:18], 2) + 1
    place = 18 + width_bits
    if len(bits) < place + height_bits:
        raise ValueError(bits)
    return int(bits[18:place], 2) + 1, int(bits[place : place + height_bits], 2) + 1


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each unit (OBU). Raises ValueError or IndexError unless units with a size tile `data`."""
    place = 0
    while place < len(data):
        head = data[place]
        size, place = _leb128(data, place + 1)
        if head & _UNIT_FLAGS != _UNIT_HAS_SIZE or size > len(data) - place:
            raise ValueError(head)
        yield head >> 3, data[place : place + size]
        place += size


def _leb128(data: bytes, place: int) -> tuple[int, int]:
    """A length of seven bits a byte, low ones first, and the place after it."""
    value = 0
    for index in range(_SIZE_BYTES):
        byte = data[place + index]
        value |= (byte & _SEVEN_BITS) << (7 * index)
        if not byte & _MORE:
            return value, place + index + 1
    raise ValueError(value)
