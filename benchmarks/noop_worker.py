"""A worker whose tail computes nothing: `python -m benchmarks.noop_worker --bundle B --broker URL`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from broker.address import BrokerAddress
from broker.link import Link, LinkConfig
from broker.presence import Announcer
from broker.process import run_process
from cloud_worker.settings import WorkerSettings
from cloud_worker.tails import NoOpTail
from cloud_worker.worker import Worker, served
from schemas.bundle_files import open_bundle
from schemas.topics import Topics


async def serve(bundle: Path, broker: str, stop: asyncio.Event) -> None:
    """The real worker, link and batcher around a tail that answers label 0."""
    tails = (NoOpTail(open_bundle(bundle).manifest),)
    announcer = Announcer("worker", "noop", served(tails), Topics())
    async with Link(LinkConfig(BrokerAddress.parse(broker), "noop"), announcer) as link:
        await link.wait_connected(10)
        worker = Worker(link, tails, announcer, WorkerSettings(), on_ready=lambda: print("ready noop", file=sys.stderr))
        await worker.run(stop)


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--broker", required=True)
    options = parser.parse_args()
    return run_process("noop-worker", lambda stop: serve(options.bundle, options.broker, stop), log_level="warning")


if __name__ == "__main__":
    sys.exit(main())
