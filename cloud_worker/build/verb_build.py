"""`cloud-worker build`: from a torch module and some samples to a bundle that can be served."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from typing import Final

from broker.exits import EXIT_BAD_INPUT, EXIT_OK
from broker.options import add_arguments
from cloud_worker.build.build_options import OPTIONS, BuildOptions, build_options
from cloud_worker.build.files import write_whole
from schemas.errors import BadInputError, ConfigError

PROG: Final = "cloud-worker build"
EXIT_STOPPED: Final = 130


def add_options(parser: argparse.ArgumentParser) -> None:
    """Every option; each can be an environment variable too."""
    add_arguments(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Build and print what was built; 2, with one line, for what cannot be used, 130 after Ctrl-C or SIGTERM.

    The bundle is whole or was not touched then; a profile, and what was learnt until then, are kept.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _check_torch()
        options = build_options(arguments, os.environ)
        lines = _built(options)
    except (BadInputError, OSError, MemoryError) as error:
        _say_error(_reason(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        _say_error("stopped; no bundle is half-written, and with --fit the same command goes on after its last epoch")
        return EXIT_STOPPED
    sys.stdout.write("\n".join(lines) + "\n")
    return EXIT_OK


def _built(options: BuildOptions) -> list[str]:
    from cloud_worker.build.build_report import report, summary  # noqa: PLC0415 - torch, which may be missing
    from cloud_worker.build.make import build  # noqa: PLC0415

    built = build(options, _say)
    if options.report is not None:
        write_whole(options.report, report(built, options).encode())
    return summary(built, options)


def _check_torch() -> None:
    """Raise ConfigError where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        msg = "torch is not installed here; pip install 'splitbus[build]'"
        raise ConfigError(msg)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        return f"nothing can be written{place}: {error.strerror or error}; make room, or name another --out and --fit"
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({error}); take fewer samples, or a machine with more"
    return " ".join(str(error).split())


def _say(step: str) -> None:
    sys.stderr.write(f"{PROG}: {step}\n")
    sys.stderr.flush()


def _say_error(reason: str) -> None:
    sys.stderr.write(f"{PROG}: error: {reason}\n")
