"""Samples of a folder: images, or NumPy arrays, as a model takes them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from schemas.errors import ConfigError, SampleError
from schemas.tensor import Array

IMAGES: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
ARRAYS: Final = (".npy", ".npz")
MOST: Final = 2000
"""Samples that are read where nothing else is said; of more, as many are taken evenly."""
_MAX_PIXELS: Final = 1 << 26
_MODES: Final = {1: "L", 3: "RGB"}
_AXES: Final = 3


class Sample(NamedTuple):
    """One sample as the edge node takes it: uint8 (height, width, channels), or float32 of any shape."""

    name: str
    """File below the folder, with `[i]` where a file holds several."""
    folder: str
    """The first sub-folder that it lies in; empty in none."""
    array: Array
    place: int
    """Which it is of all that there are, those included that are not read."""
    among: int
    """How many there are."""


def read_samples(folder: Path, input_shape: tuple[int, ...] | None, most: int = MOST) -> list[Sample]:
    """The samples below the folder, in order of name, at most `most`, evenly, all of one dtype and shape.

    `input_shape` is what the model takes for one sample, channels first for images; without it the files must be of
    one size. Images are cut to the middle and scaled to it. An array file holds one sample, or (N, ...) of them: by
    `input_shape`, or without it (N, ...) unless several files have the same shape. Raises SampleError, naming the file,
    for one that is broken or of another shape, and when there is none.
    """
    paths = _files(folder)
    images = [path for path in paths if path.suffix.lower() in IMAGES]
    arrays = [path for path in paths if path.suffix.lower() in ARRAYS]
    if images and arrays:
        msg = f"{folder} holds images ({images[0].name}) and arrays ({arrays[0].name}); keep one kind"
        raise SampleError(msg)
    if not paths:
        msg = f"{folder} holds no sample ({', '.join((*IMAGES, *ARRAYS))}); give the folder that has them"
        raise SampleError(msg)
    found = (_images if images else _arrays)(folder, images or arrays, input_shape, most)
    first = found[0]
    for each in found:
        if (each.array.dtype, each.array.shape) != (first.array.dtype, first.array.shape):
            msg = f"{each.name} is {_told(each.array)}, {first.name} is {_told(first.array)}; make all samples alike"
            raise SampleError(msg)
    return found


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        msg = f"there is no folder at {folder}; give one with samples"
        raise SampleError(msg)
    known = {*IMAGES, *ARRAYS}
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in known and not _is_hidden(path.relative_to(folder)) and path.is_file()
    )


def _is_hidden(inside: Path) -> bool:
    return any(part.startswith(".") for part in inside.parts)


def evenly(count: int, most: int) -> list[int]:
    """At most so many of 0 to count - 1, at even distances."""
    return [index * count // min(count, most) for index in range(min(count, most))]


def _named(folder: Path, path: Path, item: str, array: Array, *, place: int, among: int) -> Sample:
    inside = path.relative_to(folder)
    first = inside.parts[0] if len(inside.parts) > 1 else ""
    return Sample(f"{inside.as_posix()}{item}", first, array, place, among)


def _images(folder: Path, paths: list[Path], shape: tuple[int, ...] | None, most: int) -> list[Sample]:
    """uint8 (height, width, channels)."""
    try:
        import PIL  # noqa: F401, PLC0415 - only images need it
    except ImportError:
        msg = "Pillow is not installed here, which reads images; pip install 'splitbus[build]'"
        raise ConfigError(msg) from None
    if shape is not None and (len(shape) != _AXES or shape[0] not in _MODES):
        msg = f"{paths[0].name} is an image, the model takes {list(shape)}; give 1 or 3 channels first, or arrays"
        raise SampleError(msg)
    places = evenly(len(paths), most)
    taken = [paths[place] for place in places]
    if shape is None:
        pixels = [_pixels(path, None, None) for path in taken]
        grey = all(each.shape[2] == 1 for each in pixels)
        if not grey:
            pixels = [np.repeat(each, 3, axis=2) if each.shape[2] == 1 else each for each in pixels]
    else:
        pixels = [_pixels(path, shape[0], (shape[1], shape[2])) for path in taken]
    rows = zip(taken, pixels, places, strict=True)
    return [_named(folder, path, "", each, place=place, among=len(paths)) for path, each, place in rows]


def _pixels(path: Path, channels: int | None, size: tuple[int, int] | None) -> Array:
    """uint8 (height, width, channels), upright; channels as in the file when not told."""
    from PIL import Image, ImageOps  # noqa: PLC0415

    try:
        with Image.open(path, formats=sorted(set(IMAGES.values()))) as image:
            if image.width * image.height > _MAX_PIXELS:
                msg = f"it has {image.width}x{image.height} pixels, at most {_MAX_PIXELS} are read"
                raise ValueError(msg)  # noqa: TRY301 - said with the file's name below
            kept = channels or (1 if image.mode in {"1", "L"} else 3)
            upright = ImageOps.exif_transpose(image).convert(_MODES[kept])
            if size is not None and upright.size != (size[1], size[0]):
                upright = ImageOps.fit(upright, (size[1], size[0]), Image.Resampling.LANCZOS)
            return np.array(upright, np.uint8).reshape(upright.height, upright.width, kept)
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise what they like for damaged files
        msg = f"{path} is not a whole image that can be read ({error}); remove it or replace it"
        raise SampleError(msg) from None


def _arrays(folder: Path, paths: list[Path], shape: tuple[int, ...] | None, most: int) -> list[Sample]:
    members = [(path, item, array) for path in paths for item, array in _members(path)]
    several = _are_several(members, shape)
    counts = [len(array) if several[array.shape] else 1 for _, _, array in members]
    found: list[Sample] = []
    for (path, item, array), count, end in zip(members, counts, accumulate(counts), strict=True):
        if several[array.shape]:
            for row in evenly(count, max(1, most // len(members))):
                one = _as_sample(path, array[row], shape)
                found.append(_named(folder, path, f"{item}[{row}]", one, place=end - count + row, among=sum(counts)))
        else:
            found.append(_named(folder, path, item, _as_sample(path, array, shape), place=end - 1, among=sum(counts)))
    if not found:
        msg = f"{paths[0]} holds no sample; give at least one"
        raise SampleError(msg)
    return [found[index] for index in evenly(len(found), most)]


def _are_several(members: list[tuple[Path, str, Array]], shape: tuple[int, ...] | None) -> dict[tuple[int, ...], bool]:
    """For each shape of a file, whether its first dimension counts samples."""
    shapes = {array.shape for _, _, array in members}
    if shape is None:
        one_each = len(members) > 1 and len(shapes) == 1
        return {each: len(each) > 0 and not one_each for each in shapes}
    allowed = _allowed(shape)
    told = {each: each[1:] in allowed and each not in allowed for each in shapes}
    for path, item, array in members:
        if array.shape not in allowed and not told[array.shape]:
            msg = f"{path}{item} holds {_told(array)}, the model takes {list(shape)}; give one sample, or (N, ...)"
            raise SampleError(msg)
    return told


def _allowed(shape: tuple[int, ...]) -> set[tuple[int, ...]]:
    """Shapes of one sample: as the model takes it, or as an image, channels last and left out when there is one."""
    found = {shape}
    if len(shape) == _AXES:
        found.add((shape[1], shape[2], shape[0]))
        if shape[0] == 1:
            found.add(shape[1:])
    return found


def _as_sample(path: Path, array: Array, shape: tuple[int, ...] | None) -> Array:
    """Checked values: uint8 as an image (height, width, channels), float32 as it is."""
    if array.dtype == np.uint8:
        image = array[:, :, None] if array.ndim == _AXES - 1 else array
        if image.ndim != _AXES or (shape is not None and image.shape != (shape[1], shape[2], shape[0])):
            msg = f"{path} holds {_told(array)}; uint8 is an image (height, width, channels): give that, or float32"
            raise SampleError(msg)
        return np.ascontiguousarray(image)
    if array.dtype != np.float32:
        msg = f"{path} holds {array.dtype}; save it as float32, or as uint8 for images"
        raise SampleError(msg)
    if array.ndim == 0 or (shape is not None and array.shape != shape):
        wanted = "one dimension or more" if shape is None else f"{list(shape)}"
        msg = f"{path} holds {_told(array)}; give float32 samples of {wanted}"
        raise SampleError(msg)
    if not np.isfinite(array).all():
        msg = f"{path} holds values that are not finite; remove that sample"
        raise SampleError(msg)
    return np.ascontiguousarray(array)


def _members(path: Path) -> Iterator[tuple[str, Array]]:
    """The arrays of a file, each with what follows the file's name."""
    try:
        loaded: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix.lower() == ".npy":
            yield "", loaded
            return
        with loaded:
            for name in sorted(loaded.files):
                yield f"#{name}", loaded[name]
    except (ValueError, OSError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        msg = f"{path} is not a whole file of numbers ({error}); write it again with numpy.save"
        raise SampleError(msg) from None


def _told(array: Array) -> str:
    return f"{array.dtype}{list(array.shape)}"
