"""What a node ships after it has answered: probes and audits, as tasks that it owns."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """A bounded set of named tasks; whatever is left is cancelled, and waited for, by `aclose`.

    What a task fails with comes out of `aclose`: none is meant to fail.
    """

    def __init__(self, limit: int = 4) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._tasks)

    @property
    def full(self) -> bool:
        """Whether there is no room for another."""
        return len(self._tasks) >= self._limit

    def start(self, job: Coroutine[Any, Any, None], name: str) -> None:
        """Run it beside everything else. Raises RuntimeError where there is no room; ask `full` before."""
        if self.full:
            job.close()
            msg = f"{len(self._tasks)} tasks are under way already"
            raise RuntimeError(msg)
        task = asyncio.create_task(job, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def aclose(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        if self._failures:
            raise self._failures.pop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)
