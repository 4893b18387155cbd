"""What a codec is."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from schemas.codecs.tables import Tables
from schemas.tensor import Array, TensorSpec

Config = dict[str, Any]


class Codec(Protocol):
    """Turns one tensor of a fixed spec into bytes and back.

    What is the same for every frame (spec, scales, tables) is in the constructor, never in the payload.
    Encoding gives the same bytes on every platform, but for image files. Decoding trusts no length: it raises
    DecodeError for a payload of another length or form before it allocates more than a few tensors of the spec.
    """

    id: ClassVar[str]
    needs_tables: ClassVar[bool]
    """Whether it reads tables from a file of the bundle."""
    max_payload: int
    """No payload of this codec is longer, in bytes."""

    def __init__(self, spec: TensorSpec, config: Config, tables: Tables | None = None) -> None:
        """Raises ConfigError, naming the field or the table, when configuration or tables do not fit the spec."""

    def encode(self, array: Array) -> bytes:
        """Bytes for an array of the codec's spec. Raises TensorError for any other array."""

    def decode(self, payload: bytes) -> Array:
        """An array of the codec's spec. Raises DecodeError for anything but a whole payload."""
