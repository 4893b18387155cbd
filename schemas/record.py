"""Base classes of every pydantic model, and one way to say what is wrong with one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Strict, ValidationError

from schemas.errors import SplitbusError

_Kind = TypeVar("_Kind", bound=BaseModel)

LAX: Final = Strict(strict=False)
"""For a tuple on the wire, which has only lists; its items stay strict."""
_SHOWN_PROBLEMS, _SHOWN_CHARS = 8, 80


class Record(BaseModel):
    """Immutable data of our own files: an unknown field is an error, since it is a typing mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OpenRecord(BaseModel):
    """Immutable data from the wire: an unknown field is ignored, since a newer peer may send it.

    A value of another type is an error, never converted: no bool, float or text passes for an integer.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, strict=True)


def member_of(kind: type[int | str]) -> BeforeValidator:
    """For an enum on the wire: a member, or its value as exactly `kind`."""

    def check(value: object) -> object:
        if isinstance(value, Enum) or type(value) is kind:
            return value
        msg = f"takes {kind.__name__}, not {type(value).__name__}"
        raise ValueError(msg)

    return BeforeValidator(check)


def shortened(limit: int) -> BeforeValidator:
    """For text of our own making: cut to `limit` characters, and what UTF-8 cannot hold becomes `?`."""

    def cut(value: object) -> object:
        if not isinstance(value, str):
            return value
        text = value if len(value) <= limit else value[: limit - 3] + "..."
        return text.encode("utf-8", "replace").decode("utf-8")

    return BeforeValidator(cut)


@dataclass(frozen=True, slots=True)
class JsonFile(Generic[_Kind]):
    """One kind of JSON file: what people call it, the most bytes that it may have, and what is raised."""

    kind: type[_Kind]
    name: str
    most_bytes: int
    error: type[SplitbusError]
    remedy: str
    """What to do when it is too large."""

    def parse(self, data: bytes) -> _Kind:
        """Read it strictly. Raises `error`, naming the field and the value."""
        if len(data) > self.most_bytes:
            msg = f"{self.name} has {len(data)} bytes, the cap is {self.most_bytes}; {self.remedy}"
            raise self.error(msg)
        try:
            return self.kind.model_validate_json(data, strict=True)
        except ValidationError as error:
            msg = f"{self.name} cannot be used: {explain(error)}"
            raise self.error(msg) from None


def explain(error: ValidationError) -> str:
    """One line naming each wrong field (the first eight), what is wrong with it and the value that it has.

    Bytes and containers are never quoted, only measured: they may hold a sample.
    """
    problems = error.errors(include_url=False)
    parts = []
    for item in problems[:_SHOWN_PROBLEMS]:
        where = ".".join(str(step)[:_SHOWN_CHARS] for step in item["loc"]) or "value"
        parts.append(f"{where}: {item['msg'][:200]} (got {_shown(item['input'])})")
    more = len(problems) - _SHOWN_PROBLEMS
    return "; ".join([*parts, f"and {more} more"] if more > 0 else parts)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(value) if len(value) <= _SHOWN_CHARS else f"{value[: _SHOWN_CHARS - 3]!r}..."
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 64):
        return repr(value)
    if isinstance(value, bytes | list | tuple | dict):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
