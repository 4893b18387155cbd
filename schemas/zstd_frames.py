"""Any array as one Zstandard frame of its bytes, little-endian and in C order."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from schemas.errors import ConfigError, DecodeError
from schemas.tensor import Array, TensorSpec

_LEVEL = 9
"""A 224x224 photo takes 2 ms; level 19 makes it 7 % smaller in 36 ms."""


class ZstdFrame:
    """Arrays of one spec, lossless. The frame states its content's size, which must be the spec's."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._stored = np.dtype(spec.dtype).newbyteorder("<")
        self.max_payload = spec.nbytes + (spec.nbytes >> 8) + 64
        """Zstandard's own bound on what it makes of so many bytes."""

    def encode(self, array: Array) -> bytes:
        """The array, which is of the spec, as one frame."""
        zstandard = _library()
        frame: bytes = zstandard.ZstdCompressor(level=_LEVEL).compress(array.astype(self._stored).tobytes())
        return frame

    def decode(self, payload: bytes) -> Array:
        """The array. Raises DecodeError for anything but one whole frame of exactly the spec's bytes.

        The size that the frame states is compared first, and no more than that is ever written.
        """
        zstandard = _library()
        try:
            stated = zstandard.get_frame_parameters(payload).content_size
            if stated != self._spec.nbytes:
                msg = f"the frame holds {stated} bytes, {self._spec} takes {self._spec.nbytes}"
                raise DecodeError(msg)
            data = zstandard.ZstdDecompressor().decompress(payload, max_output_size=stated, allow_extra_data=False)
        except zstandard.ZstdError as error:
            msg = f"the payload is not one whole Zstandard frame: {error}"
            raise DecodeError(msg) from None
        stored = np.frombuffer(data, self._stored).reshape(self._spec.shape)
        return stored.astype(self._spec.dtype)


def _library() -> ModuleType:
    """The package `zstandard`. Raises ConfigError when it is missing."""
    try:
        import zstandard  # noqa: PLC0415 - not every node ships such frames
    except ImportError:
        msg = "codec input: the format zstd needs the package zstandard; install splitbus[edge] or splitbus[cloud]"
        raise ConfigError(msg) from None
    return zstandard
