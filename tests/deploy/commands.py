"""The two commands, as far as their own parsers go: what they make of an argv and an environment. Nothing is run."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cloud_worker.__main__ as cloud_main
import cloud_worker.options as cloud_options
import cloud_worker.verb_run as cloud_run
import edge_node.__main__ as edge_main
import edge_node.options as edge_options
from broker.options import variable

TOP = Path(__file__).parents[2]
DEPLOY = TOP / "deploy"
PROJECT: dict[str, Any] = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]

MODULES: dict[str, ModuleType] = {"edge-node": edge_main, "cloud-worker": cloud_main}
STARTERS: dict[str, ModuleType] = {"edge-node": edge_main, "cloud-worker": cloud_run}
"""Where each begins its work."""
VARIABLES = {
    "edge-node": {variable(name) for name in edge_options.OPTIONS},
    "cloud-worker": {variable(name) for name in cloud_options.OPTIONS},
}


def check(monkeypatch: pytest.MonkeyPatch, command: str, argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """The command's exit code when it ends before its work begins: 0 when it takes all it was given."""
    for name in [name for name in os.environ if name.startswith("SPLITBUS_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(STARTERS[command], "run_process", lambda *_args, **_kwargs: 0)
    try:
        return int(MODULES[command].main(list(argv)))
    except SystemExit as stopped:
        return int(stopped.code or 0)


def unknown_variables(command: str, names: Sequence[str]) -> set[str]:
    """Those of ours that the command does not read."""
    return {name for name in names if name.startswith("SPLITBUS_")} - VARIABLES[command]


def settings(text: str) -> dict[str, str]:
    """`NAME=value` lines of an environment file; comments are left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("#", ";"))]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def commands_in(text: str) -> list[list[str]]:
    """Every call of one of the two commands with `run`, up to a pipe, a comment or the line's end."""
    joined = text.replace("\\\n", " ")
    found = re.findall(r"(?:^|[\s/])((?:edge-node|cloud-worker) run\b[^\n|#&`<>]*)", joined)
    return [shlex.split(each) for each in found]
