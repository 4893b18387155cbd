"""What `edge-node profile` measured on a device: how long each head takes there. One JSON object."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.errors import ConfigError
from schemas.record import JsonFile, Record

MAX_BYTES = 1 << 20

Name = Annotated[str, Field(min_length=1, max_length=255)]
Label = Annotated[str, Field(min_length=1, max_length=80)]
Milliseconds = Annotated[float, Field(ge=0, le=3_600_000)]


class HeadTime(Record):
    """One head's time for one sample on one thread."""

    file: Name
    """Name of the file, without its folder."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    p50_ms: Milliseconds
    p95_ms: Milliseconds

    @model_validator(mode="after")
    def _ordered(self) -> HeadTime:
        if self.p95_ms < self.p50_ms:
            msg = f"p95_ms {self.p95_ms:g} is below p50_ms {self.p50_ms:g}"
            raise ValueError(msg)
        return self


class DeviceTimes(Record):
    """Every head that was timed on a device."""

    format: Literal[1] = 1
    device: Label
    runtime: Label
    """What ran the heads; several joined by `+`."""
    entries: Annotated[tuple[HeadTime, ...], Field(min_length=1, max_length=10_000)]


_FILE = JsonFile(
    DeviceTimes, "the file of the device's times", MAX_BYTES, ConfigError, "give what edge-node profile printed"
)


def parse_device_times(data: bytes) -> DeviceTimes:
    """Read the JSON. Raises ConfigError, naming the field and the value."""
    return _FILE.parse(data)
