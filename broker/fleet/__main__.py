"""`fleet VERB`: what an operator does with a bus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final, Protocol

from broker.fleet import verb_inspect

PROG: Final = "fleet"


class Verb(Protocol):
    """What a module of a verb offers."""

    def add_parser(self, verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        """Add the verb's parser, whose default `run` takes the parsed options and returns the exit code."""


VERBS: Final[tuple[Verb, ...]] = (verb_inspect,)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and run the verb; 2 for bad input or a broker that cannot be used."""
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_parser(verbs)
    options = parser.parse_args(argv)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
