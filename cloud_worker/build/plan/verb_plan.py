"""`cloud-worker plan`: choose where to cut a profiled model for a link, and the codec."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from typing import Final

from broker.exits import EXIT_BAD_INPUT, EXIT_OK
from broker.options import add_arguments
from cloud_worker.build.files import write_whole
from cloud_worker.build.measure.profile_file import read_profile
from cloud_worker.build.plan.html import page
from cloud_worker.build.plan.options import OPTIONS, PlanOptions, plan_options
from cloud_worker.build.plan.ranking import Plan, plan
from cloud_worker.build.plan.rows import plan_json
from schemas.errors import BadInputError, ConfigError

PROG: Final = "cloud-worker plan"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The profile, and every option; each can be an environment variable too."""
    parser.add_argument("profile", metavar="PROFILE.json", help="what was measured of the model")
    add_arguments(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan and write its report; 2 for bad input, and when nothing is admissible, with the reason."""
    try:
        options = plan_options(arguments, os.environ)
        _check_rich(options)
        found = plan(
            read_profile(options.profile), options.link, options.prices, options.objective, options.constraints
        )
        if options.report is not None:
            write_whole(options.report, page(found).encode())
    except BadInputError as error:
        sys.stderr.write(f"{PROG}: error: {error}\n")
        return EXIT_BAD_INPUT
    _print(found, options)
    return EXIT_OK


def _check_rich(options: PlanOptions) -> None:
    """Raise ConfigError where the table is wanted and rich is not installed."""
    if not options.as_json and importlib.util.find_spec("rich") is None:
        msg = "rich is not installed here; pip install 'splitbus[build]', or ask for --json"
        raise ConfigError(msg)


def _print(found: Plan, options: PlanOptions) -> None:
    if options.as_json:
        sys.stdout.write(json.dumps(plan_json(found), allow_nan=False) + "\n")
        return
    from cloud_worker.build.plan.table import show  # noqa: PLC0415 - rich comes with the build extra only

    show(found, everything=options.everything)
