"""`cloud-worker run`: serve the tails of some bundles until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Final

from broker.exits import EXIT_BAD_INPUT
from broker.link import Link, LinkConfig
from broker.options import add_arguments
from broker.presence import Announcer
from broker.process import run_process, until_stopped
from cloud_worker.compute import ComputeThread
from cloud_worker.options import OPTIONS, RunOptions, default_id, run_options
from cloud_worker.tails import SplitTail, load_tail
from cloud_worker.worker import Worker, served
from schemas.bundle_files import open_bundle
from schemas.errors import ConfigError
from schemas.messages import PresenceState, Served
from schemas.topics import Topics

PROG: Final = "cloud-worker"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Every option; each can be an environment variable too."""
    add_arguments(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Serve; 0 after a drained end, 2 for bad input or a broker that cannot be used."""
    try:
        _check_torch()
        options = run_options(arguments, os.environ)
    except ConfigError as error:
        sys.stderr.write(f"{PROG}: error: {error}\n")
        return EXIT_BAD_INPUT
    return run_process(PROG, lambda stop: serve(options, stop), log_level=options.log_level)


def _check_torch() -> None:
    """Raise ConfigError where torch is not installed, as on an edge node."""
    if importlib.util.find_spec("torch") is None:
        msg = "torch is not installed here; pip install 'splitbus[cloud]'"
        raise ConfigError(msg)


async def serve(options: RunOptions, stop: asyncio.Event) -> None:
    """Load, connect, work until `stop` is set, drain.

    Told to stop before it is connected, it ends then. Raises BundleError for a bundle that cannot be served,
    BrokerUnavailableError or BrokerRefusedError when the broker cannot be used at the start; later the link is
    restored for as long as it takes.
    """
    with ComputeThread() as thread:
        tails = await _load(options, thread)
        serves = served(tails)
        # until its lines are subscribed it is not online: the worker says so then
        announcer = Announcer(
            "worker",
            options.id,
            serves,
            Topics(options.root),
            PresenceState.STOPPED,
            ephemeral=options.id == default_id(),
        )
        config = LinkConfig(
            options.broker,
            client_id=f"worker-{options.id}",
            receive_maximum=max(2, min(65_535, 2 * options.settings.max_batch)),
        )
        async with Link(config, announcer) as link:
            await until_stopped(stop, link.wait_connected(options.connect_timeout_s))
            if stop.is_set():
                return
            worker = Worker(link, tails, announcer, options.settings, on_ready=lambda: _say_ready(options.id, serves))
            await worker.run(stop)


async def _load(options: RunOptions, thread: ComputeThread) -> list[SplitTail]:
    bundles = [open_bundle(path) for path in options.bundles]
    max_batch, trusted, threads = options.settings.max_batch, options.trust_unsigned, options.torch_threads
    return [
        await load_tail(bundle, thread, max_batch=max_batch, trusted=trusted, threads=threads) for bundle in bundles
    ]


def _say_ready(id_: str, serves: Sequence[Served]) -> None:
    """One line for each line of a model, for whoever waits for this process."""
    for each in serves:
        sys.stderr.write(f"ready id={id_} line={each.model}/{each.line} interface={each.interface}\n")
    sys.stderr.flush()
