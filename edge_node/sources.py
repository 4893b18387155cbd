"""Samples from a path: a folder of images, one image, a `.npy` array, or an IDX file such as Fashion-MNIST's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from edge_node.idx import labels_beside, read_idx
from schemas.errors import SampleError
from schemas.tensor import Array, TensorSpec

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 1 << 26
"""The largest image that is decoded; its header is read first."""

_FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
_IDX: Final = re.compile(r"idx\d-ubyte(\.gz)?$")
_LABELLED: Final = re.compile(r"(\d{1,9})_")
_MODES: Final = {1: "L", 3: "RGB"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One raw sample, as the manifest's `sample` spec states it, and its label's index when it is known."""

    name: str
    array: Array
    label: int | None = None


class Source:
    """Samples by number, each read when it is asked for."""

    def __init__(self, count: int, load: Callable[[int], Sample]) -> None:
        self._count = count
        self._load = load

    def __len__(self) -> int:
        return self._count

    def load(self, index: int) -> Sample:
        """The sample at `index` of 0 to len - 1. Raises SampleError naming it when it cannot be used."""
        if not 0 <= index < self._count:
            msg = f"there is no sample {index}, the source has {self._count}; ask for 0 to {self._count - 1}"
            raise SampleError(msg)
        return self._load(index)

    def __iter__(self) -> Iterator[Sample | SampleError]:
        """Every sample in order; one that cannot be used comes as its SampleError, in its place.

        So the caller counts or reports it, and goes on.
        """
        for index in range(self._count):
            try:
                yield self._load(index)
            except SampleError as error:
                yield error


def open_source(path: Path | str, spec: TensorSpec) -> Source:
    """The samples at `path`, for a model that takes `spec`.

    - A folder: its png, jpg, webp and bmp files in order of name, without subfolders and hidden files. When
      every name starts with a number and `_`, as in `7_sneaker.png`, that number is the label.
    - An image file. Images are turned as EXIF says, converted to grey or RGB (8 bits; transparency is
      dropped) and, when their size is not the spec's, resized (bilinear, proportions not kept).
    - `.npy`: an array (n, *spec.shape) of the spec's dtype; the channel axis may be missing when it is 1.
    - IDX (`...-images-idx3-ubyte`, perhaps `.gz`): (n, height, width) bytes; labels from `...labels-idx1-ubyte`
      beside it. IDX files are read whole at once.

    Raises SampleError when the path, the file as a whole or the array's shape cannot be used.
    """
    place = Path(path)
    if place.is_dir():
        return _folder(place, spec)
    if not place.is_file():
        msg = f"there is no file or folder at {place}; give a folder of images, an image, a .npy or an IDX file"
        raise SampleError(msg)
    if place.suffix.lower() in _FORMATS:
        return _images([place], spec)
    if place.suffix.lower() == ".npy":
        return _array(place, _open_npy(place), spec, None)
    if _IDX.search(place.name):
        array = read_idx(place)
        return _array(place, array, spec, labels_beside(place, len(array)))
    msg = f"{place.name} is none of {', '.join(_FORMATS)}, .npy and *-idx3-ubyte(.gz); convert it to one of them"
    raise SampleError(msg)


def _folder(folder: Path, spec: TensorSpec) -> Source:
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _FORMATS and not p.name.startswith("."))
    except OSError as error:
        msg = f"the folder {folder} cannot be read ({error.strerror}); check its permissions"
        raise SampleError(msg) from None
    if not paths:
        msg = f"the folder {folder} holds no image ({', '.join(_FORMATS)}); give the folder that has them itself"
        raise SampleError(msg)
    return _images(paths, spec)


def _images(paths: list[Path], spec: TensorSpec) -> Source:
    """Image files, labelled by their names when there are several and all names have labels."""
    if spec.dtype != "uint8" or len(spec.shape) != 3 or spec.shape[2] not in _MODES:  # noqa: PLR2004 - h, w, channels
        msg = f"the model takes {spec}, which no image becomes; give a .npy file of such samples"
        raise SampleError(msg)
    matches = [_LABELLED.match(path.name) for path in paths]
    labels = [int(match[1]) if match else None for match in matches]
    if None in labels:
        labels = [None] * len(paths)
    return Source(len(paths), lambda index: Sample(paths[index].name, _load_image(paths[index], spec), labels[index]))


def _load_image(path: Path, spec: TensorSpec) -> Array:
    """Pixels uint8 (height, width, channels). Raises SampleError when the file cannot be used."""
    from PIL import Image  # noqa: PLC0415 - heavy, and only images need it

    try:
        with Image.open(path, formats=sorted(set(_FORMATS.values()))) as image:
            return _pixels(path, image, spec)
    except SampleError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, str(error)) from None
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise what they like for damaged files
        msg = f"{path.name} is not a whole image that can be read ({error}); remove it or replace it"
        raise SampleError(msg) from None


def _pixels(path: Path, image: Image.Image, spec: TensorSpec) -> Array:
    """The opened image in the spec's mode and size; its size and mode are checked before a pixel is decoded."""
    from PIL import Image, ImageOps  # noqa: PLC0415

    height, width, channels = spec.shape
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path, f"{image.width}x{image.height} pixels")
    if image.mode.startswith(("I", "F")):
        msg = f"{path.name} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits"
        raise SampleError(msg)
    upright = ImageOps.exif_transpose(image).convert(_MODES[channels])
    if upright.size != (width, height):
        upright = upright.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(upright, np.uint8).reshape(spec.shape)


def _too_large(path: Path, fact: str) -> SampleError:
    return SampleError(f"{path.name} is too large ({fact}, at most {MAX_PIXELS} pixels); scale it down first")


def _open_npy(path: Path) -> Array:
    """A read-only view of the file. Raises SampleError when it is no whole `.npy` file of plain numbers."""
    try:
        return cast("Array", np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError, SyntaxError) as error:
        msg = f"{path.name} is not a whole .npy file of numbers ({error}); write it again with numpy.save"
        raise SampleError(msg) from None


def _array(path: Path, array: Array, spec: TensorSpec, labels: list[int] | None) -> Source:
    """One sample for each first index. Raises SampleError when dtype or shape are not the spec's."""
    allowed = {spec.shape, spec.shape[:-1]} if spec.shape[-1] == 1 else {spec.shape}
    if array.ndim < 1 or array.dtype != np.dtype(spec.dtype) or array.shape[1:] not in allowed or not len(array):
        msg = f"{path.name} holds {array.dtype}{list(array.shape)}, the model takes (n, ...) of {spec}; convert it"
        raise SampleError(msg)

    def load(index: int) -> Sample:
        one: Any = np.array(array[index]).reshape(spec.shape)
        return Sample(f"{path.name}[{index}]", one, labels[index] if labels else None)

    return Source(len(array), load)
