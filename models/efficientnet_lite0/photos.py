"""Photos that are on the machine or in a folder, cut to 224x224 and dealt to three disjoint parts.

Looked for where they are installed: scikit-image's and scikit-learn's own, and those of Debian's gcompris-qt-data (WebP
inside Qt resource files), mate-backgrounds and opencv-doc. Which part a photo goes to follows from its content alone,
so that another photo more or less moves no other; a photo that looks like an earlier one is left out.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from PIL import Image

from models.efficientnet_lite0.nets import SIDE
from schemas.tensor import Array

Part = Literal["calibration", "validation", "test"]

_SHARES: Final[dict[Part, int]] = {"calibration": 40, "validation": 12, "test": 48}
"""Per cent of the photos; they sum to 100."""
_CROPS: Final[dict[Part, int]] = {"calibration": 4, "validation": 3, "test": 4}
"""Crops of each photo: first the middle of the whole, then others from the photo at 1.3 times the size."""
_CLOSER: Final = 1.3
_COLOURS: Final = 20_000
"""A picture with fewer among its 224x224 pixels is a drawing."""
_ALIKE: Final = 0.95
"""Correlation of two thumbnails from which on they show the same."""
_SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".webp"}

_SKIMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
_OPENCV = (
    *("aloeL.jpg", "apple.jpg", "baboon.jpg", "board.jpg", "building.jpg", "butterfly.jpg", "fruits.jpg", "graf1.png"),
    *("home.jpg", "leuvenA.jpg", "messi5.jpg", "orange.jpg", "rubberwhale1.png", "smarties.png", "squirrel_cls.jpg"),
    *("stuff.jpg", "ela_original.jpg"),
)
_GCOMPRIS = (
    *("categorization", "clickgame", "details", "erase", "explore_farm_animals", "explore_monuments"),
    *("explore_world_animals", "explore_world_music", "louis-braille"),
)
_MATE = Path("/usr/share/backgrounds/mate/nature")
_OPENCV_FOLDER = Path("/usr/share/doc/opencv-doc/examples/data")
_GCOMPRIS_FOLDER = Path("/usr/share/gcompris-qt/rcc")


class PhotoError(ValueError):
    """There are no photos, or too few; the message says where they may come from."""


class Photo(NamedTuple):
    """One photo: where it is from, and its RGB pixels."""

    name: str
    image: Image.Image


def photos(folder: Path | None = None) -> list[Photo]:
    """Every photo that is large enough, each once, in order of name; of `folder` alone when one is given.

    Raises PhotoError when there are none.
    """
    found: list[Photo] = []
    seen: list[Array] = []
    for name, data in sorted(_folder(folder) if folder else _installed(), key=lambda each: each[0]):
        image = _open(data)
        if image is None:
            continue
        small = _thumbnail(image)
        if all(float(small @ other) < _ALIKE for other in seen):
            seen.append(small)
            found.append(Photo(name, image))
    if not found:
        places = "scikit-image, scikit-learn, gcompris-qt-data, mate-backgrounds, opencv-doc"
        msg = f"no photos of {SIDE}x{SIDE} or more in {folder or 'the packages looked for'}; install {places}, "
        raise PhotoError(msg + "or give another --photos DIR")
    return found


def part_of(photo: Photo) -> Part:
    """The part that the photo's pixels send it to."""
    draw = hashlib.sha256(photo.image.resize((64, 64), Image.Resampling.BOX).tobytes()).digest()[0] * 100 // 256
    bound = 0
    for part, share in _SHARES.items():
        bound += share
        if draw < bound:
            return part
    return "test"


def crops(found: list[Photo], part: Part) -> Array:
    """uint8 (n, 224, 224, 3): the crops of the photos that belong to `part`, in a fixed order.

    Raises PhotoError when no photo does.
    """
    cut = [crop for photo in found if part_of(photo) == part for crop in _crops(photo, _CROPS[part])]
    if not cut:
        msg = f"none of {len(found)} photos falls to {part}; give more photos"
        raise PhotoError(msg)
    return np.stack(cut)


def _crops(photo: Photo, count: int) -> Iterator[Array]:
    rng = np.random.RandomState(int.from_bytes(hashlib.sha256(photo.name.encode()).digest()[:4], "little"))
    for index in range(count):
        side = SIDE if index == 0 else round(SIDE * _CLOSER)
        width, height = photo.image.size
        scale = side / min(width, height)
        size = max(side, round(width * scale)), max(side, round(height * scale))
        image = photo.image.resize(size, Image.Resampling.LANCZOS)
        spare = size[0] - SIDE, size[1] - SIDE
        left, top = (spare[0] // 2, spare[1] // 2) if index == 0 else (rng.randint(s + 1) for s in spare)
        yield np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))


def _open(data: bytes) -> Image.Image | None:
    """The photo, or None for what is none: not readable, small, transparent, grey or a drawing."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode != "RGB" or min(image.size) < SIDE:
                return None
            image.load()
            copy = image.copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    pixels = np.asarray(copy.resize((SIDE, SIDE))).reshape(-1, 3)
    return copy if len(np.unique(pixels, axis=0)) > _COLOURS else None


def _thumbnail(image: Image.Image) -> Array:
    """16x16 grey values with mean 0 and length 1."""
    grey = np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BOX), np.float64).ravel()
    grey -= grey.mean()
    unit: Array = grey / max(float(np.linalg.norm(grey)), 1e-9)
    return unit


def _folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def _installed() -> Iterator[tuple[str, bytes]]:
    places = [
        *(_package("skimage", "data", name) for name in _SKIMAGE),
        *(_package("sklearn", "datasets", "images", name) for name in ("china.jpg", "flower.jpg")),
        *(_OPENCV_FOLDER / name for name in _OPENCV),
        *_MATE.glob("*.jpg"),
    ]
    for path in places:
        if path is not None and path.is_file():
            yield f"{path.parent.name}/{path.name}", path.read_bytes()
    for name in _GCOMPRIS:
        yield from _resources(_GCOMPRIS_FOLDER / f"{name}.rcc")


def _package(package: str, *parts: str) -> Path | None:
    """A file inside an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent.joinpath(*parts) if spec and spec.origin else None


def _resources(path: Path) -> Iterator[tuple[str, bytes]]:
    """The WebP files inside a Qt resource file, which holds them as they are."""
    data = path.read_bytes() if path.is_file() else b""
    start = data.find(b"RIFF")
    while start >= 0:
        if data[start + 8 : start + 12] == b"WEBP":
            size = struct.unpack_from("<I", data, start + 4)[0] + 8
            yield f"{path.stem}/{start:08}", data[start : start + size]
        start = data.find(b"RIFF", start + 4)
