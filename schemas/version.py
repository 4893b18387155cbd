"""Semantic versions, and the rule by which two halves of a model go together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_PATTERN = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """`major.minor.patch`, ordered as numbers (Semantic Versioning 2.0.0, without suffixes)."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `1.2.3`. Raises ValueError, naming the text, for anything else."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            msg = f"{text!r} is not a version; write major.minor.patch, for example 1.4.0"
            raise ValueError(msg)
        return cls(*(int(part) for part in match.groups()))

    @property
    def line(self) -> str:
        """`major.minor`: what people and topics call a set of compatible releases."""
        return f"{self.major}.{self.minor}"

    def compatible_with(self, other: Version) -> bool:
        """Whether the halves may form a pair: same major and minor number."""
        return (self.major, self.minor) == (other.major, other.minor)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"
