"""The `cloud-worker` command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Final

PROG: Final = "cloud-worker"
VERBS: Final = {
    "run": ("cloud_worker.verb_run", "finish split inferences until SIGTERM"),
    "build": ("cloud_worker.build.verb_build", "make a bundle of a torch model: cut it, calibrate, export, try"),
    "plan": ("cloud_worker.build.plan.verb_plan", "choose where to cut a profiled model for a link, and the codec"),
}
"""Module and purpose of each; a module has `add_options(parser)` and `run(arguments)`, which returns the exit code."""


def build_parser(chosen: str) -> argparse.ArgumentParser:
    """One subcommand a verb; only the chosen one's module is loaded, since planning needs nothing that serving does."""
    parser = argparse.ArgumentParser(
        prog=PROG, description="The cloud half. Every option can be an environment variable; the option wins."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, (module, purpose) in VERBS.items():
        verb = verbs.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        if name == chosen:
            loaded = importlib.import_module(module)
            loaded.add_options(verb)
            verb.set_defaults(run=loaded.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and run the verb; 0 at its end, 2 for bad input."""
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = build_parser(given[0] if given else "").parse_args(given)
    code: int = arguments.run(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
