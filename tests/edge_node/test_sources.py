"""Samples from folders, images, arrays and IDX files, good and bad."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_node.sources import MAX_PIXELS, Sample, open_source
from schemas.errors import SampleError
from schemas.tensor import TensorSpec

GREY = TensorSpec(dtype="uint8", shape=(28, 28, 1))
COLOUR = TensorSpec(dtype="uint8", shape=(20, 30, 3))
FLOATS = TensorSpec(dtype="float32", shape=(3, 4))
FASHION = Path(__file__).parents[2] / "models" / "fashion_mnist"
IDX_HEAD = b"\0\0\x08\x03" + struct.pack(">3I", 2, 28, 28)


def read(path: Path, spec: TensorSpec) -> list[Sample]:
    samples = [item for item in open_source(path, spec) if isinstance(item, Sample)]
    assert len(samples) == len(open_source(path, spec))
    return samples


def save(path: Path, mode: str = "L", size: tuple[int, int] = (28, 28), **options: object) -> Path:
    Image.new(mode, size, 100 if mode == "L" else (10, 20, 30)).save(path, **options)
    return path


def test_the_committed_sample_of_fashion_mnist_comes_with_its_labels() -> None:
    source = open_source(FASHION / "test" / "images-idx3-ubyte.gz", GREY)
    labels = [source.load(index).label for index in range(len(source))]
    assert len(source) == 1000
    assert set(labels) == set(range(10))
    assert source.load(0).array.shape == (28, 28, 1)
    assert source.load(0).name == "images-idx3-ubyte.gz[0]"


def test_the_committed_images_are_the_idx_file_s_samples() -> None:
    idx = open_source(FASHION / "test" / "images-idx3-ubyte.gz", GREY)
    by_label = {sample.label: sample.array for sample in reversed([idx.load(index) for index in range(100)])}
    images = read(FASHION / "samples", GREY)
    assert [image.name for image in images][7] == "7_sneaker.png"
    assert [image.label for image in images] == list(range(10))
    for image in images:
        np.testing.assert_array_equal(image.array, by_label[image.label])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp", "a.bmp"])
def test_one_image_of_any_format_is_converted_and_resized(tmp_path: Path, name: str) -> None:
    (sample,) = read(save(tmp_path / name, "RGB", (64, 48)), COLOUR)
    assert (sample.array.dtype, sample.array.shape, sample.label) == (np.uint8, (20, 30, 3), None)
    np.testing.assert_allclose(sample.array[10, 15], (10, 20, 30), atol=4)
    (grey,) = read(tmp_path / name, GREY)
    assert grey.array.shape == (28, 28, 1)


def test_images_are_turned_as_exif_says(tmp_path: Path) -> None:
    pixels = np.zeros((30, 20), np.uint8)
    pixels[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    (sample,) = read(tmp_path / "a.png", TensorSpec(dtype="uint8", shape=(20, 30, 1)))
    assert sample.array[:, -1].min() == 255
    assert sample.array[:, 0].max() == 0


def test_a_folder_is_read_in_order_without_other_files(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", ".hidden.png"):
        save(tmp_path / name)
    (tmp_path / "readme.txt").write_text("not an image")
    (tmp_path / "below").mkdir()
    save(tmp_path / "below" / "c.png")
    assert [(sample.name, sample.label) for sample in read(tmp_path, GREY)] == [("a.png", None), ("b.png", None)]


def test_labels_are_read_from_names_only_when_all_have_them(tmp_path: Path) -> None:
    save(tmp_path / "7_sneaker.png")
    save(tmp_path / "12_other.png")
    assert [sample.label for sample in read(tmp_path, GREY)] == [12, 7]
    save(tmp_path / "IMG_1.png")
    assert [sample.label for sample in read(tmp_path, GREY)] == [None] * 3


def test_bad_images_come_as_errors_in_their_place(tmp_path: Path) -> None:
    whole = save(tmp_path / "1.png", size=(200, 200)).read_bytes()
    Image.effect_noise((200, 200), 50).save(tmp_path / "2.png")
    truncated = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(truncated[: len(truncated) // 2])
    (tmp_path / "3.jpg").write_bytes(b"not an image")
    (tmp_path / "4.png").write_bytes(b"")
    (tmp_path / "5.png").mkdir()
    Image.new("I;16", (28, 28)).save(tmp_path / "6.png")
    (tmp_path / "7.png").write_bytes(whole)
    source = open_source(tmp_path, GREY)
    items = list(source)
    assert [isinstance(item, Sample) for item in items] == [True, False, False, False, False, False, True]
    for name, item in zip(("2.png", "3.jpg", "4.png", "5.png", "6.png"), items[1:], strict=False):
        assert str(item).startswith(f"{name} ")
        assert ";" in str(item)
    with pytest.raises(SampleError, match=r"3\.jpg"):
        source.load(2)


def test_every_prefix_of_an_image_is_refused_or_whole(tmp_path: Path) -> None:
    data = save(tmp_path / "whole.png").read_bytes()
    (whole,) = read(tmp_path / "whole.png", GREY)
    for length in range(len(data)):
        (tmp_path / "cut.png").write_bytes(data[:length])
        for item in open_source(tmp_path / "cut.png", GREY):
            if isinstance(item, Sample):
                np.testing.assert_array_equal(item.array, whole.array)


def png_stating(width: int, height: int) -> bytes:
    """A PNG of that size, on paper."""
    chunks = (b"IHDR" + struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(bytes(99)), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


@pytest.mark.parametrize("side", [8193, 10_000, 100_000])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png_stating(side, side))
    (error,) = open_source(tmp_path / "bomb.png", GREY)
    assert isinstance(error, SampleError)
    assert "bomb.png is too large" in str(error)
    assert str(MAX_PIXELS) in str(error)


def test_npy_arrays_are_samples_of_the_spec(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", values)
    samples = read(tmp_path / "a.npy", FLOATS)
    assert [sample.name for sample in samples] == ["a.npy[0]", "a.npy[1]"]
    np.testing.assert_array_equal(samples[1].array, values[1])
    samples[1].array[:] = 0
    np.testing.assert_array_equal(read(tmp_path / "a.npy", FLOATS)[1].array, values[1])


def test_npy_images_may_leave_out_the_channel_axis(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 28, 28), np.uint8))
    assert read(tmp_path / "a.npy", GREY)[0].array.shape == (28, 28, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((3, 4), np.float32),
        np.zeros((2, 3, 5), np.float32),
        np.zeros((2, 3, 4), np.float64),
        np.zeros((2, 3, 4), ">f4"),
        np.zeros((0, 3, 4), np.float32),
        np.float32(1),
        np.array([{}], dtype=object),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_an_array_of_another_shape_or_type_is_refused(tmp_path: Path, wrong: object) -> None:
    np.save(tmp_path / "a.npy", np.asarray(wrong))
    with pytest.raises(SampleError, match=r"^a\.npy .*;"):
        open_source(tmp_path / "a.npy", FLOATS)


def test_every_prefix_of_an_npy_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.zeros((2, 3, 4), np.float32))
    data = (tmp_path / "whole.npy").read_bytes()
    for length in range(len(data)):
        (tmp_path / "cut.npy").write_bytes(data[:length])
        with pytest.raises(SampleError, match=r"cut\.npy"):
            open_source(tmp_path / "cut.npy", FLOATS)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("labels_suffix", ["", ".gz"])
def test_idx_files_may_be_zipped_and_labels_are_found_beside(tmp_path: Path, suffix: str, labels_suffix: str) -> None:
    write_idx(tmp_path / f"t10k-images-idx3-ubyte{suffix}", IDX_HEAD + bytes(range(256)) * 6 + bytes(32))
    write_idx(tmp_path / f"t10k-labels-idx1-ubyte{labels_suffix}", b"\0\0\x08\x01\0\0\0\2\7\3")
    samples = read(tmp_path / f"t10k-images-idx3-ubyte{suffix}", GREY)
    assert [sample.label for sample in samples] == [7, 3]
    assert samples[0].array[0, 5, 0] == 5


def write_idx(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def test_idx_without_labels(tmp_path: Path) -> None:
    write_idx(tmp_path / "a-idx3-ubyte", IDX_HEAD + bytes(2 * 784))
    assert [sample.label for sample in read(tmp_path / "a-idx3-ubyte", GREY)] == [None, None]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x08\0",
        b"\0\0\x09\x03" + IDX_HEAD[4:] + bytes(2 * 784),
        IDX_HEAD[:10],
        IDX_HEAD,
        IDX_HEAD + bytes(2 * 784 - 1),
        IDX_HEAD + bytes(2 * 784 + 1),
        b"\0\0\x08\x03" + b"\xff" * 12,
        b"\0\0\x08\x03" + struct.pack(">3I", 2, 28, 29) + bytes(2 * 28 * 29),
        b"\0\0\x08\x03" + struct.pack(">3I", 0, 28, 28),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, data: bytes, suffix: str) -> None:
    write_idx(tmp_path / f"a-images-idx3-ubyte{suffix}", data)
    with pytest.raises(SampleError, match=r"^a-images-idx3-ubyte.*;"):
        open_source(tmp_path / f"a-images-idx3-ubyte{suffix}", GREY)


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(IDX_HEAD + bytes(2 * 784))
    for data in (b"plain", whole[:-9], whole[:20], whole[:-1], whole[:30] + b"\xff" * 9 + whole[39:]):
        (tmp_path / "a-idx3-ubyte.gz").write_bytes(data)
        with pytest.raises(SampleError, match=r"a-idx3-ubyte\.gz"):
            open_source(tmp_path / "a-idx3-ubyte.gz", GREY)


def test_labels_of_another_set_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path / "images-idx3-ubyte", IDX_HEAD + bytes(2 * 784))
    write_idx(tmp_path / "labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\1\7")
    with pytest.raises(SampleError, match=r"labels-idx1-ubyte holds labels \[1\] for 2 images"):
        open_source(tmp_path / "images-idx3-ubyte", GREY)


def test_a_path_that_cannot_be_a_source_says_what_can(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("text")
    save(tmp_path / "a.png")
    for path, spec, reason in (
        (tmp_path / "missing", GREY, "there is no file or folder"),
        (tmp_path / "empty", GREY, "holds no image"),
        (tmp_path / "a.txt", GREY, "a.txt is none of"),
        (tmp_path / "a.png", FLOATS, r"which no image becomes; give a \.npy"),
    ):
        with pytest.raises(SampleError, match=reason):
            open_source(path, spec)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_sample_that_is_not_there(tmp_path: Path, index: int) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4), np.float32))
    with pytest.raises(SampleError, match="ask for 0 to 1"):
        open_source(tmp_path / "a.npy", FLOATS).load(index)
