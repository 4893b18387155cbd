from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas.codecs.input import Input
from schemas.errors import ConfigError, DecodeError
from schemas.tensor import TensorSpec
from tests.schemas.samples import COLOUR, GREY, INPUT, pixels

MOST_MEMORY = 1 << 20
"""What refusing a hostile payload for a small sample may allocate at most."""
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "png"},
    "webp": {"format": "webp"},
    "jpeg": {"format": "jpeg", "quality": 90},
    "avif": {"format": "avif", "quality": 60},
}
WHOLE = {name: config for name, config in INPUT.items() if "shrink" not in config}


def spec_of(height: int, width: int, colours: int) -> TensorSpec:
    return TensorSpec(dtype="uint8", shape=(height, width, colours))


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_.upper(), **options)
    return file.getvalue()


def picture(mode: str, size: tuple[int, int] = (7, 6)) -> Image.Image:
    return Image.fromarray(pixels((size[1], size[0], 3))).convert(mode)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, extra: bytes = b"", data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", data or zlib.compress(bytes((1 + 3 * 7) * 6)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body + chunk(b"IEND", b"")


def refused(codec: Input, payload: bytes) -> str:
    """The message with which a payload is refused, cheaply."""
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError) as caught:
            codec.decode(payload)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
    return str(caught.value)


@pytest.mark.parametrize("format_", ["png", "webp", "zstd"])
@given(shape=st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3])), data=st.data())
def test_without_a_quality_every_pixel_comes_back(
    format_: str, shape: tuple[int, int, int], data: st.DataObject
) -> None:
    spec = spec_of(*shape)
    seed = data.draw(st.binary(min_size=1, max_size=40))
    array = np.resize(np.frombuffer(seed, np.uint8), shape)
    codec = Input(spec, {"format": format_})
    assert codec.decode(codec.encode(array)).tobytes() == array.tobytes()


@pytest.mark.parametrize("config", WHOLE.values(), ids=WHOLE)
def test_a_lossy_picture_stays_close(config: dict[str, Any]) -> None:
    for spec in (spec_of(32, 40, 1), spec_of(32, 40, 3)):
        array = np.indices(spec.shape).sum(axis=0).astype(np.uint8)
        codec = Input(spec, config)
        error = np.abs(codec.decode(codec.encode(array)).astype(int) - array.astype(int))
        assert error.mean() <= (4 if "quality" in config else 0)


@pytest.mark.parametrize("config", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (1, 300, 3), (300, 1, 3), (33, 33, 3), (64, 64, 1)])
def test_noise_at_the_best_quality_stays_under_the_promised_size(
    config: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    best = {**config, "quality": 100} if "quality" in config else config
    spec = spec_of(*shape)
    noise = (pixels(shape).astype(int) * 97 % 256).astype(np.uint8)
    codec = Input(spec, best)
    payload = codec.encode(noise)
    assert len(payload) <= codec.max_payload
    assert codec.decode(payload).shape == shape


def test_a_header_that_claims_60000_by_60000_is_refused_before_any_pixel() -> None:
    refused(Input(COLOUR, {"format": "png"}), png(60_000, 60_000))
    assert "9000x9000" in refused(Input(COLOUR, {"format": "png"}), png(9000, 9000))


CANVASES = {
    "16383x16383": b"VP8L" + struct.pack("<IBI", 5, 0x2F, 16_382 | 16_382 << 14) + b"\0",
    "16384x16384": b"VP8X" + struct.pack("<II", 10, 0) + 2 * (16_383).to_bytes(3, "little"),
}


@pytest.mark.parametrize("size", CANVASES)
def test_a_large_canvas_is_refused_before_the_library_makes_it(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        pytest.fail("the library saw the file")

    codec, body = Input(COLOUR, FORMATS["webp"]), b"WEBP" + CANVASES[size]
    monkeypatch.setattr(Image, "open", opened)
    assert f"{size}, expected 7x6" in refused(codec, b"RIFF" + struct.pack("<I", len(body)) + body)


def test_more_pixels_than_the_header_says_are_never_inflated() -> None:
    codec = Input(COLOUR, {"format": "png"})
    bomb = zlib.compress(bytes(3 << 20), 9)
    assert len(bomb) < codec.max_payload
    tracemalloc.start()
    assert codec.decode(png(7, 6, data=bomb)).shape == COLOUR.shape
    assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    tracemalloc.stop()


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP", b"tEXt", b"eXIf", b"PLTE", b"acTL"])
def test_a_png_with_other_chunks_is_refused_unread(name: bytes) -> None:
    packed = b"name\0\0" + zlib.compress(bytes(1 << 20), 9)
    assert "not one whole png" in refused(Input(COLOUR, {"format": "png"}), png(7, 6, extra=chunk(name, packed)))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("other", ["png", "webp", "jpeg", "avif", "gif", "bmp", "tiff", "ppm", "ico"])
def test_another_format_is_refused(format_: str, other: str) -> None:
    payload = saved(picture("RGB"), other)
    if other != format_:
        refused(Input(COLOUR, FORMATS[format_]), payload)


@pytest.mark.parametrize(
    ("format_", "mode"),
    [("png", mode) for mode in ("1", "P", "L", "LA", "RGBA", "I;16")]
    + [("webp", "RGBA"), ("avif", "RGBA"), ("avif", "L"), ("jpeg", "L"), ("jpeg", "CMYK")],
)
def test_another_mode_is_refused(format_: str, mode: str) -> None:
    image = picture("I").convert("I;16") if mode == "I;16" else picture(mode)
    if mode == "RGBA":
        image.putalpha(128)
    refused(Input(COLOUR, FORMATS[format_]), saved(image, format_))


@pytest.mark.parametrize(("depth", "colour"), [(16, 2), (4, 0), (2, 0), (1, 0), (16, 0)])
def test_another_bit_depth_is_refused(depth: int, colour: int) -> None:
    spec = COLOUR if colour else GREY
    refused(Input(spec, {"format": "png"}), png(7, 6, depth=depth, colour=colour))


@pytest.mark.parametrize("format_", ["jpeg", "png"])
def test_colour_is_refused_where_grey_is_expected(format_: str) -> None:
    refused(Input(GREY, FORMATS[format_]), saved(picture("RGB"), format_))


@pytest.mark.parametrize("format_", ["webp", "png", "avif"])
def test_an_animation_is_refused(format_: str) -> None:
    frames = [Image.new("RGB", (7, 6), colour) for colour in ("red", "blue", "green")]
    payload = saved(frames[0], format_, save_all=True, append_images=frames[1:])
    refused(Input(COLOUR, FORMATS[format_]), payload)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("size", [(6, 7), (7, 7), (1, 1), (14, 12)])
def test_another_size_is_refused_with_both(format_: str, size: tuple[int, int]) -> None:
    message = refused(Input(COLOUR, FORMATS[format_]), saved(picture("RGB", size), format_))
    assert f"{size[0]}x{size[1]}" in message
    assert "7x6" in message


@pytest.mark.parametrize("format_", FORMATS)
def test_a_payload_over_the_promised_size_is_refused_unread(format_: str) -> None:
    codec = Input(COLOUR, FORMATS[format_])
    message = refused(codec, codec.encode(pixels(COLOUR.shape)) + bytes(65_536))
    assert f"at most {codec.max_payload} bytes" in message


@pytest.mark.parametrize("format_", FORMATS)
def test_a_prefix_that_is_padded_to_the_end_mark_is_refused_or_of_the_right_shape(format_: str) -> None:
    codec = Input(COLOUR, FORMATS[format_])
    whole = codec.encode(pixels(COLOUR.shape))
    end = {"png": whole[-12:], "jpeg": whole[-2:], "webp": b"", "avif": b""}[format_]
    for length in range(len(whole) - len(end)):
        try:
            assert codec.decode(whole[:length] + end).shape == COLOUR.shape
        except DecodeError as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "format"),
        ({"format": "gif"}, "format"),
        ({"format": "PNG"}, "format"),
        ({"format": "png", "quality": 90}, "png is lossless; leave quality out"),
        ({"format": "jpeg"}, "jpeg needs a quality"),
        ({"format": "jpeg", "quality": 0}, "quality"),
        ({"format": "avif"}, "avif needs a quality, 0 to 100"),
        ({"format": "webp", "quality": 0}, "webp needs a quality, 1 to 100"),
        ({"format": "webp", "quality": 101}, "quality"),
        ({"format": "webp", "quality": "80"}, "quality"),
        ({"format": "webp", "quality": True}, "quality"),
        ({"format": "webp", "lossless": True}, "lossless"),
        ({"format": "zstd", "quality": 3}, "zstd is lossless; leave quality out"),
        ({"format": "zstd", "shrink": [3, 3]}, "zstd keeps every value; leave shrink out"),
        ({"format": "png", "shrink": [3]}, "shrink"),
        ({"format": "png", "shrink": [0, 3]}, "shrink.0"),
        ({"format": "png", "shrink": [3, 2.0]}, "shrink.1"),
        ({"format": "png", "shrink": [7, 7]}, "shrink is .7, 7., more than the sample .*; give a smaller size"),
        ({"format": "png", "shrink": [6, 8]}, "more than the sample"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_by_field(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"codec input: .*{message}|codec input: {message}"):
        Input(COLOUR, config)


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 2), (6, 7, 4), (1, 6, 7, 3)])
def test_a_sample_that_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"takes uint8\[height, width, 1 or 3\] for png.*; use zstd"):
        Input(TensorSpec(dtype="uint8", shape=shape), {"format": "png"})


@pytest.mark.parametrize(("format_", "side"), [("webp", 16_384), ("jpeg", 65_501), ("avif", 32_769)])
def test_a_side_that_the_format_cannot_hold_is_refused_with_the_remedy(format_: str, side: int) -> None:
    with pytest.raises(ConfigError, match=f"takes sides up to {side - 1}.*; use png"):
        Input(spec_of(1, side, 3), FORMATS[format_])
    codec = Input(spec_of(1, side - 1, 1), FORMATS[format_])
    assert codec.decode(codec.encode(np.zeros((1, side - 1, 1), np.uint8))).shape == (1, side - 1, 1)


@pytest.mark.parametrize("format_", ["jpeg", "avif"])
def test_full_chroma_keeps_colour_that_half_chroma_loses(format_: str) -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    spec, config = spec_of(32, 32, 3), {"format": format_, "quality": 90}

    def error(**more: str) -> float:
        codec = Input(spec, {**config, **more})
        return float(np.abs(codec.decode(codec.encode(stripes)).astype(int) - stripes).mean())

    assert error(chroma="4:4:4") < 0.5 * error()
    assert error(chroma="4:2:0") == error()


@pytest.mark.parametrize("config", [{"format": "webp"}, {"format": "png"}, {"format": "zstd"}])
def test_a_format_without_a_choice_of_chroma_says_so(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="has no choice of chroma; leave it out"):
        Input(COLOUR, {**config, "chroma": "4:4:4"})


@pytest.mark.parametrize("size", [8, 200])
def test_a_jpeg_is_the_smaller_of_baseline_and_progressive(size: int) -> None:
    image = np.asarray(Image.fromarray(pixels((6, 7, 3))).resize((size, size), Image.Resampling.BICUBIC))
    payload = Input(spec_of(size, size, 3), FORMATS["jpeg"]).encode(image)
    both = [
        saved(Image.fromarray(image), "jpeg", quality=90, optimize=True, progressive=each) for each in (False, True)
    ]
    assert payload == min(both, key=len)
    assert len(both[0]) != len(both[1])
