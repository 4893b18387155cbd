"""Every topic: build, parse, filter. Nobody else writes a slash.

Topics are short because every frame carries one. `{root}` is `sb` unless configured otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from schemas.errors import ConfigError, DecodeError

Kind = Literal["edge", "worker"]
_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_LINE = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})", re.ASCII)

_SHAPES: dict[str, tuple[str, ...]] = {
    "w": ("model", "line", "node"),
    "r": ("node",),
    "p": ("kind", "id"),
    "s": ("kind", "id"),
    "o": ("node", "model"),
    "d": ("reason",),
}
_NAMES = {"w": "work", "r": "reply", "p": "presence", "s": "stats", "o": "outcome", "d": "dead letter"}


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed topic: what it carries, and the value of each of its levels."""

    what: str
    levels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics under one root."""

    root: str = "sb"

    def __post_init__(self) -> None:
        check_id(self.root, "topic root")

    def work(self, model: str, line: str, node: str) -> str:
        """Work of one node for one line (major.minor) of a model; edges write it."""
        return f"{self.root}/w/{model}/{line}/{node}"

    def work_shared(self, model: str, line: str) -> str:
        """Shared subscription of all workers of a line; the group is named after all that the filter names.

        rumqttd keys groups by name alone, so two filters must never share one, not even of two roots.
        """
        return f"$share/{self.root}~{model}~{line}/{self.root}/w/{model}/{line}/+"

    def reply(self, node: str) -> str:
        """Replies to one node; workers write it."""
        return f"{self.root}/r/{node}"

    def presence(self, kind: Kind, id_: str) -> str:
        """Retained birth, and as will the death, of an edge or a worker."""
        return f"{self.root}/p/{kind}/{id_}"

    def presence_of_all(self, kind: Kind) -> str:
        """Filter for the presence of every edge or every worker."""
        return f"{self.root}/p/{kind}/+"

    def stats(self, kind: Kind, id_: str) -> str:
        """Counters of an edge or a worker, every few seconds."""
        return f"{self.root}/s/{kind}/{id_}"

    def outcome(self, node: str, model: str) -> str:
        """Outcomes as JSON, for Node-RED, Home Assistant, a database."""
        return f"{self.root}/o/{node}/{model}"

    def dead_letter(self, reason: str) -> str:
        """What a worker refused, and why; headers only."""
        return f"{self.root}/d/{reason}"

    def parse(self, topic: str) -> Address:
        """What a topic carries. Raises DecodeError for a topic that is not one of ours."""
        return _parse(self.root, topic)


@lru_cache(maxsize=4096)
def _parse(root: str, topic: str) -> Address:
    """Kept for the topics seen last, since every frame of a node has the same one."""
    levels = topic.removeprefix(f"{root}/").split("/")
    names = _SHAPES.get(levels[0])
    values = levels[1:]
    good = topic.startswith(f"{root}/") and names is not None and len(names) == len(values)
    if not good or names is None or not all(map(_valid_level, names, values)):
        msg = f"{topic[:200]!r} is not a topic under {root!r}"
        raise DecodeError(msg)
    return Address(_NAMES[levels[0]], MappingProxyType(dict(zip(names, values, strict=True))))


def _valid_level(name: str, value: str) -> bool:
    if name == "line":
        return _LINE.fullmatch(value) is not None
    if name == "kind":
        return value in {"edge", "worker"}
    return _LEVEL.fullmatch(value) is not None


def check_id(value: str, what: str) -> str:
    """Return `value` when it can be one topic level. Raises ConfigError, naming it, otherwise."""
    if _LEVEL.fullmatch(value) is None:
        msg = (
            f"{what} {value[:200]!r} cannot be a topic level; use 1 to 64 letters, digits, dots, dashes or underscores"
        )
        raise ConfigError(msg)
    return value
