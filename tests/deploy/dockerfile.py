"""Just enough of the Dockerfile format for ours: instructions, build arguments, JSON forms, .dockerignore."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its words already joined over continued lines."""

    name: str
    rest: str

    @property
    def json(self) -> list[str] | None:
        """The exec form, or None when it is in shell form."""
        return list(json.loads(self.rest)) if self.rest.startswith("[") else None


class Dockerfile:
    """The instructions of a file, with build arguments at their defaults."""

    def __init__(self, path: Path) -> None:
        text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
        lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
        self.instructions = [Instruction(*line.split(maxsplit=1)) for line in lines]
        self.arguments = {name: default for name, _, default in (one.rest.partition("=") for one in self.all("ARG"))}

    def all(self, name: str) -> list[Instruction]:
        """Every instruction of that name, in order."""
        return [one for one in self.instructions if one.name == name]

    def last(self, name: str) -> Instruction:
        """The one that holds in the end."""
        return self.all(name)[-1]

    def copies(self) -> list[tuple[list[str], str]]:
        """Sources in the repository and the target of each COPY."""
        found = []
        for one in self.all("COPY"):
            expanded = re.sub(r"\$\{(\w+)\}", lambda match: self.arguments[match[1]], one.rest)
            if not expanded.startswith("--from="):
                *sources, target = shlex.split(expanded)
                found.append((sources, target))
        return found

    def environment(self) -> dict[str, str]:
        """What ENV sets in the end."""
        return dict(word.split("=", 1) for one in self.all("ENV") for word in shlex.split(one.rest))

    def extras(self) -> list[str]:
        """The extras of this project that pip is told to install."""
        lists = re.findall(r"'\.\[([^\]]+)\]'", "\n".join(one.rest for one in self.all("RUN")))
        return [extra for each in lists for extra in each.split(",")]


def is_ignored(path: str, ignore_file: Path) -> bool:
    """Whether the build never sees a path: the last rule that matches it or a folder above it decides."""
    parts = path.split("/")
    levels = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    ignored = False
    rules = [line.strip() for line in ignore_file.read_text().splitlines()]
    for rule in [rule for rule in rules if rule and not rule.startswith("#")]:
        if any(_matches(level, rule.removeprefix("!")) for level in levels):
            ignored = not rule.startswith("!")
    return ignored


def _matches(path: str, pattern: str) -> bool:
    anywhere = pattern.removeprefix("**/")
    if anywhere != pattern:
        return fnmatch(path.rpartition("/")[2], anywhere)
    return fnmatch(path, pattern) and path.count("/") == pattern.count("/")
