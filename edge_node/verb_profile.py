"""`edge-node profile`: how long heads take on this device, for the profile of a model that is built elsewhere."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from broker.exits import EXIT_BAD_INPUT, EXIT_OK
from broker.options import Option, Table, add_arguments, number, read_options
from broker.stopwatch import device_name, timing
from schemas.device_times import DeviceTimes, HeadTime
from schemas.errors import BadInputError, ConfigError

PROG: Final = "edge-node"
SUFFIXES: Final = (".tflite", ".npz")
OPTIONS: Final[Table] = {"seconds": Option(number(0, 3600), "1", "least time that each head is run")}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The heads, and where the answer goes."""
    parser.add_argument("heads", nargs="+", metavar="HEADS", help=".tflite or .npz files, or folders of them")
    parser.add_argument("--json", metavar="FILE", help="write the JSON there and print a line for each head")
    add_arguments(parser, OPTIONS)


def run(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> int:
    """Time every head, and print or write the JSON; 2 for bad input, with the reason."""
    try:
        seconds = read_options(OPTIONS, arguments, environment)["seconds"]
        files = heads_in([Path(given) for given in arguments.heads])
        times = profile(files, seconds, _silent if arguments.json is None else _print)
        text = times.model_dump_json(indent=1) + "\n"
        if arguments.json is None:
            sys.stdout.write(text)
        else:
            _write(Path(arguments.json), text)
    except BadInputError as error:
        sys.stderr.write(f"{PROG}: error: {error}\n")
        return EXIT_BAD_INPUT
    return EXIT_OK


def heads_in(paths: Sequence[Path]) -> list[Path]:
    """The files, and those of the folders by name. Raises ConfigError for what is not there or is no head."""
    found: list[Path] = []
    for path in paths:
        heads = sorted(_within(path))
        if not heads:
            what = "holds no" if path.is_dir() else "is no file that is called"
            msg = f"{path} {what} *{' or *'.join(SUFFIXES)}; give heads, or a folder of them"
            raise ConfigError(msg)
        found += heads
    return found


def profile(files: Sequence[Path], seconds: float, say: Callable[[HeadTime], None]) -> DeviceTimes:
    """Each head's time on this device: one thread, warmed up, processor time, for so many seconds at least.

    Raises BundleError and ConfigError, naming the file, as `open_loose` does.
    """
    from edge_node.loose_head import open_loose  # noqa: PLC0415 - so that --help needs neither NumPy nor a runtime

    runtimes: dict[str, None] = {}
    entries: list[HeadTime] = []
    for path in files:
        data = _read(path)
        head = open_loose(path, data)
        took = timing(head.run, at_least_s=seconds)
        digest = hashlib.sha256(data).hexdigest()
        entries.append(HeadTime(file=path.name, sha256=digest, p50_ms=took.p50_ms, p95_ms=took.p95_ms))
        runtimes[head.runtime] = None
        say(entries[-1])
    return DeviceTimes(device=device_name(), runtime="+".join(runtimes), entries=tuple(entries))


def _within(path: Path) -> Iterator[Path]:
    for each in path.iterdir() if path.is_dir() else [path]:
        if each.suffix in SUFFIXES and each.is_file():
            yield each


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise ConfigError(msg) from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}; name a file in a folder that may be written to"
        raise ConfigError(msg) from None


def _silent(time: HeadTime) -> None:
    del time


def _print(time: HeadTime) -> None:
    sys.stdout.write(f"{time.file}  {time.p50_ms:.3f} ms, p95 {time.p95_ms:.3f} ms\n")
