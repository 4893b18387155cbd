"""Run one embedded broker in the foreground: `python -m broker.engines --port 1883`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Final

from broker.engines import EngineChoice, start_broker
from broker.engines.start import ENGINES
from schemas.errors import BrokerUnavailableError

_CANNOT_START: Final = 2
_BROKER_DIED: Final = 1


async def serve(engine: EngineChoice, port: int) -> int:
    """Run until SIGINT or SIGTERM, then return 0; 1 when the broker ends by itself."""
    _cancel_on_signal()
    try:
        async with start_broker(engine, port=port) as broker:
            print(f"listening on {broker.url} ({broker.engine})", flush=True)  # noqa: T201  it is a command
            code = await broker.wait()
            _complain(f"{broker.engine} ended with code {code}; its last words: {broker.last_words() or 'nothing'}")
            return _BROKER_DIED
    except asyncio.CancelledError:
        return 0


def _cancel_on_signal() -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  a coroutine runs in a task
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _complain(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)  # noqa: T201  it is a command


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and serve; 2 when the broker cannot be started."""
    parser = argparse.ArgumentParser(prog="python -m broker.engines", description=__doc__)
    parser.add_argument("--engine", choices=("auto", *ENGINES), default="auto")
    parser.add_argument("--port", type=int, default=1883, help="0 for a free one (default: 1883)")
    options = parser.parse_args(argv)
    try:
        return asyncio.run(serve(options.engine, options.port))
    except BrokerUnavailableError as error:
        _complain(str(error))
        return _CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
