"""Options of a command: each from the command line, else from the environment, else the default; all checked.

A command has one table of `Option`s; `--max-batch` is `SPLITBUS_MAX_BATCH` in the environment.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from schemas.errors import ConfigError

LOG_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Option:
    """How an option's text is read, what holds when none is given, and what it is for.

    A default of None means that the value is then None. A `flag` is given as an option without a value, or
    as 1 in the environment; a `list` may be repeated, or be split by the path separator in the environment.
    """

    parse: Callable[[str], Any]
    default: str | None
    help: str
    kind: Literal["value", "flag", "list"] = "value"


Table = Mapping[str, Option]


def variable(name: str) -> str:
    """The environment variable of an option."""
    return f"SPLITBUS_{name.upper().replace('-', '_')}"


def add_arguments(parser: argparse.ArgumentParser, table: Table) -> None:
    """Every option of the table; values stay text until `read_options`."""
    for name, option in table.items():
        default = f" (default: {option.default})" if option.default and option.kind == "value" else ""
        text = f"{option.help}{default} [{variable(name)}]".replace("%", "%%")
        if option.kind == "flag":
            parser.add_argument(f"--{name}", action="store_const", const="1", help=text)
        elif option.kind == "list":
            parser.add_argument(f"--{name}", action="append", metavar="VALUE", help=text)
        else:
            parser.add_argument(f"--{name}", metavar="VALUE", help=text)


def read_options(table: Table, arguments: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """The value of every option. Raises ConfigError, naming the option or the variable, for one that cannot be used."""
    return {name: _read(name, option, arguments, environment) for name, option in table.items()}


def _read(name: str, option: Option, arguments: argparse.Namespace, environment: Mapping[str, str]) -> Any:
    given = getattr(arguments, name.replace("-", "_"))
    inherited = environment.get(variable(name))
    if option.kind == "list":
        texts = given or [part for part in (inherited or "").split(os.pathsep) if part]
        return tuple(_parsed(option, text, f"--{name}") for text in texts)
    if given is not None:
        return _parsed(option, given, f"--{name}")
    if inherited:
        return _parsed(option, inherited, variable(name))
    return None if option.default is None else _parsed(option, option.default, f"the default of --{name}")


def _parsed(option: Option, text: str, source: str) -> Any:
    try:
        return option.parse(text)
    except (ValueError, ConfigError) as error:
        msg = f"{source}: {error}"
        raise ConfigError(msg) from None


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not least <= int(text) <= most:
            msg = f"{text!r} is not a whole number from {least} to {most}"
            raise ValueError(msg)
        return int(text)

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """Reads a number within bounds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            msg = f"{text!r} is not a number from {least:g} to {most:g}"
            raise ValueError(msg)
        return value

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    """Reads one of some words."""

    def parse(text: str) -> str:
        if text not in choices:
            msg = f"{text!r} is none of {', '.join(choices)}"
            raise ValueError(msg)
        return text

    return parse


def truth(text: str) -> bool:
    """Reads 1 or 0, as flags are written in an environment."""
    return one_of("0", "1")(text) == "1"


def flag(help_text: str) -> Option:
    """An option without a value, off by default."""
    return Option(truth, "0", help_text, kind="flag")


def log_level(default: str) -> Option:
    """`--log-level`."""
    return Option(one_of(*LOG_LEVELS), default, ", ".join(LOG_LEVELS))


def host_id() -> str:
    """The host's name with what a topic level cannot hold replaced by dashes, at most 40 characters."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).lstrip("_.-")[:40] or "host"
