"""How every command of splitbus starts and ends: event loop, signals, exit codes."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from broker.exits import EXIT_BAD_INPUT, EXIT_OK
from schemas.errors import SplitbusError

Main = Callable[[asyncio.Event], Awaitable[None]]
T = TypeVar("T")


def run_process(prog: str, main: Main, *, log_level: str = "info") -> int:
    """Run `main(stop)` on uvloop where it is installed and return the exit code.

    SIGTERM and the first SIGINT set `stop`, so that `main` can finish what it has begun; a second SIGINT
    cancels it. A SplitbusError is said on stderr in one line and gives exit code 2.
    """
    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format=f"%(asctime)s {prog} %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("mqtt").setLevel(logging.ERROR)
    failures: list[SplitbusError] = []
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_main_with_signals(main))
    except* KeyboardInterrupt:
        return_code = 128 + signal.SIGINT
    except* SplitbusError as group:
        return_code = EXIT_BAD_INPUT
        failures = _leaves(group)
    else:
        return_code = EXIT_OK
    for failure in failures:
        sys.stderr.write(f"{prog}: error: {failure}\n")
    return return_code


async def until_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` returns or raises; None when `stop` is set first, after `work` was cancelled and has ended.

    For whatever a `main` waits for before it watches `stop` itself. `work` runs in a task of its own.
    """
    if stop.is_set():
        work.close()
        return None
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    both = {working, stopping}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
    finally:
        for each in both:
            each.cancel()
        await asyncio.wait(both)
    if not working.cancelled():
        working.result()  # it did not let itself be cancelled: what it raised then is not lost
    return None


async def _main_with_signals(main: Main) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    task = asyncio.current_task()

    def on_interrupt() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        await main(stop)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        raise KeyboardInterrupt from None


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes event loops: uvloop where it is installed, None for asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform; asyncio's own loop does as well
    except ImportError:
        return None
    return uvloop.new_event_loop


def _leaves(group: BaseExceptionGroup[SplitbusError]) -> list[SplitbusError]:
    found: list[SplitbusError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
