"""IDX files of bytes, plain or gzipped: the format of MNIST and Fashion-MNIST.

Two zero bytes, 0x08 for unsigned bytes, the number of dimensions, each dimension as a big-endian uint32,
then the values in C order and nothing else.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from schemas.errors import SampleError
from schemas.tensor import Array

MAX_BYTES: Final = 1 << 30
"""The most values that a file may state; compared before they are read."""
_File = BinaryIO | gzip.GzipFile
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
_REMEDY = "fetch it again"


def read_idx(path: Path) -> Array:
    """The uint8 array. Raises SampleError when the file is not IDX, too large, or of another length than it states."""
    try:
        with _open(path) as file:
            shape = _read_shape(path, file)
            count = math.prod(shape)
            if count > MAX_BYTES:
                msg = f"{path.name} states {list(shape)}, over the cap of {MAX_BYTES} bytes; split it"
                raise SampleError(msg)
            body = file.read(count + 1)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{path.name} cannot be read whole ({error}); {_REMEDY}"
        raise SampleError(msg) from None
    if len(body) != count:
        found = f"only {len(body)}" if len(body) < count else "more"
        msg = f"{path.name} states {list(shape)}, {count} bytes, and holds {found}; {_REMEDY}"
        raise SampleError(msg)
    return np.frombuffer(body, np.uint8).reshape(shape)


def labels_beside(images: Path, count: int) -> list[int] | None:
    """Labels from the file of the same name pattern beside `images`, gzipped or not; None when there is none.

    Raises SampleError when that file cannot be used or does not hold `count` labels.
    """
    if _IMAGES not in images.name:
        return None
    plain = images.with_name(images.name.replace(_IMAGES, _LABELS).removesuffix(".gz"))
    for path in (plain, plain.with_name(f"{plain.name}.gz")):
        if path.is_file():
            labels = read_idx(path)
            if labels.shape != (count,):
                msg = f"{path.name} holds labels {list(labels.shape)} for {count} images; use files of one set"
                raise SampleError(msg)
            return [int(label) for label in labels]
    return None


def _open(path: Path) -> _File:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _read_shape(path: Path, file: _File) -> tuple[int, ...]:
    head = file.read(4)
    sizes = file.read(4 * head[3]) if len(head) == 4 else b""  # noqa: PLR2004 - the four bytes of the magic number
    if head[:3] != b"\0\0\x08" or not sizes or len(sizes) != 4 * head[3]:
        msg = f"{path.name} is not an IDX file of bytes; {_REMEDY}"
        raise SampleError(msg)
    return struct.unpack(f">{head[3]}I", sizes)
