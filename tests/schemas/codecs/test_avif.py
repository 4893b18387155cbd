"""An AVIF file is read as far as its two stated sizes before Pillow sees it."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from schemas import pictures
from schemas.avif_files import avif_size
from schemas.codecs.input import Input
from schemas.errors import ConfigError, DecodeError
from tests.schemas.samples import COLOUR, GREY, pixels

CONFIG: dict[str, Any] = {"format": "avif", "quality": 60}


def saved(mode: str = "RGB", size: tuple[int, int] = (7, 6), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels((size[1], size[0], 3))).convert(mode).save(file, "AVIF", **options)
    return file.getvalue()


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def refused(payload: bytes) -> None:
    assert avif_size(payload) is None
    with pytest.raises(DecodeError, match="not one whole avif file"):
        Input(COLOUR, CONFIG).decode(payload)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("quality", [0, 50, 100])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (65, 64), (224, 224), (1000, 700)])
def test_what_pillow_writes_is_plain(mode: str, quality: int, size: tuple[int, int]) -> None:
    assert avif_size(saved(mode, size, quality=quality, speed=10)) == size


def test_a_picture_that_is_coded_larger_than_it_says_is_refused() -> None:
    file, stated = io.BytesIO(), struct.pack(">2I", 2048, 1024)
    Image.new("RGB", (2048, 1024)).save(file, "AVIF", quality=0, speed=10)
    assert avif_size(file.getvalue()) == (2048, 1024)
    assert file.getvalue().count(stated) == 1
    refused(file.getvalue().replace(stated, struct.pack(">2I", 7, 6)))


def test_boxes_that_no_plain_picture_has_are_refused() -> None:
    plain = saved()
    end = plain.index(b"meta") - 4
    for name in (b"free", b"moov", b"mdat", b"meta", b"uuid"):
        refused(plain + box(name, b""))
        refused(plain[:end] + box(name, b"") + plain[end:])
    refused(plain[end:] + plain[:end])


@pytest.mark.parametrize(
    "options",
    [
        {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"},
        {"xmp": b"<x/>"},
    ],
)
def test_metadata_are_refused(options: dict[str, Any]) -> None:
    refused(saved(**options))


def test_a_rotation_is_refused() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = saved(exif=exif)
    assert b"irot" in payload
    refused(payload)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_refused(mode: str) -> None:
    image = Image.fromarray(pixels((6, 7, 3))).convert(mode)
    image.putalpha(128)
    file = io.BytesIO()
    image.save(file, "AVIF")
    refused(file.getvalue())


def test_an_item_that_is_not_all_of_the_data_is_refused() -> None:
    plain = saved()
    place = plain.index(b"iloc") + 4 + 14
    offset, length = struct.unpack_from(">2I", plain, place)
    assert offset + length == len(plain)
    for other in ((offset, length - 1), (offset + 1, length - 1), (0, len(plain)), (offset, 1 << 31)):
        refused(plain[:place] + struct.pack(">2I", *other) + plain[place + 8 :])


@pytest.mark.parametrize("drop", [0, 1])
def test_units_other_than_one_still_picture_are_refused(drop: int) -> None:
    plain = saved()
    start = plain.index(b"mdat") + 4
    units = plain[start:]
    for other in (
        units + units[drop:],
        units[:2],
        units + b"\x12\x00",
        b"\x0a\x01\x00" + units[2:],
        b"",
        b"\x12\xff\xff",
    ):
        head = plain[: start - 8].replace(struct.pack(">I", len(units)), struct.pack(">I", len(other)))
        refused(head + box(b"mdat", other))


def test_grey_comes_back_as_one_channel() -> None:
    array = np.full(GREY.shape, 90, np.uint8)
    codec = Input(GREY, {"format": "avif", "quality": 100})
    assert np.abs(codec.decode(codec.encode(array)).astype(int) - 90).max() <= 2


def test_a_library_without_avif_is_a_config_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    pictures._pillow.cache_clear()
    codec = Input(COLOUR, CONFIG)
    for use in (lambda: codec.encode(pixels(COLOUR.shape)), lambda: codec.decode(b"")):
        with pytest.raises(ConfigError, match=r"Pillow .* has no AVIF; install Pillow's own wheel, 11\.3 or newer"):
            use()
    assert Input(COLOUR, {"format": "png"}).encode(pixels(COLOUR.shape))
