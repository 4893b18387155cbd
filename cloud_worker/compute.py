"""One thread for everything that computes, so that the event loop stays free to answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Self, TypeVar

T = TypeVar("T")

_JOIN_S = 1.0

_Job = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class ComputeThread:
    """Runs calls one after another, in the order in which they were made, on one thread; a context manager.

    The thread is a daemon: a call that never returns cannot keep the process from ending.
    """

    def __init__(self, name: str = "compute") -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Take no more calls; wait a second at most for the one that runs."""
        self._jobs.put(None)
        self._thread.join(_JOIN_S)

    async def call(self, function: Callable[[], T]) -> T:
        """What `function` returns or raises. Cancelling gives up the result; a call that has begun runs to its end."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((function, loop, future))
        return await future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, loop, future = job
            if future.cancelled():
                continue
            try:
                end = (future.set_result, function())
            except BaseException as error:  # noqa: BLE001  it is raised where the call was made
                end = (future.set_exception, error)
            with suppress(RuntimeError):  # the loop is closed, nobody waits any more
                loop.call_soon_threadsafe(_end, future, *end)


def _end(future: asyncio.Future[Any], settle: Callable[[Any], None], value: object) -> None:
    if not future.done():
        settle(value)
