"""An event loop whose clock jumps to the next timer when nothing else is left to do: time limits without waiting."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    """Instead of sleeping, moves the clock on by as much as it was asked to wait."""

    now = 0.0
    jumps = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Ready files at once; only without any, and with a timer set, the clock jumps."""
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout:
            self.now += timeout
            self.jumps += 1
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and stands still while anything runs; for code without threads and sockets."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumping.now

    @property
    def jumps(self) -> int:
        """How often there was nothing to do but to wait for a timer."""
        return self._jumping.jumps


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop of its own. Blocks for ever only where nothing is left that could happen."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
