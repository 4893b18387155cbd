"""The `edge-node` command."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from broker.exits import EXIT_BAD_INPUT
from broker.options import add_arguments, read_options
from broker.process import run_process
from edge_node import verb_profile
from edge_node.options import OPTIONS
from schemas.errors import ConfigError

PROG: Final = "edge-node"


def build_parser() -> argparse.ArgumentParser:
    """The command line; every option can be an environment variable too."""
    parser = argparse.ArgumentParser(prog=PROG, description="The edge half of split inference over MQTT.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="answer the samples of a source, with the cloud's help where it pays")
    add_arguments(run, OPTIONS)
    profile = commands.add_parser("profile", help="time heads on this device, for the profile of a model")
    verb_profile.add_options(profile)
    return parser


def _check_complete(options: Mapping[str, Any]) -> None:
    for needed in ("bundle", "source"):
        if options[needed] is None:
            msg = f"run needs --{needed}; see {PROG} run --help"
            raise ConfigError(msg)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 at the end of the source or on SIGTERM, 2 for bad input, 130 after a second Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    return verb_profile.run(arguments) if arguments.command == "profile" else _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    try:
        options = read_options(OPTIONS, arguments, os.environ)
        _check_complete(options)
    except ConfigError as error:
        sys.stderr.write(f"{PROG}: error: {error}\n")
        return EXIT_BAD_INPUT

    async def run(stop: asyncio.Event) -> None:
        from edge_node.stream import stream  # noqa: PLC0415 - so that --help needs neither NumPy nor a runtime

        await stream(options, stop)

    return run_process(PROG, run, log_level=options["log-level"])


if __name__ == "__main__":
    sys.exit(main())
