"""A broker that runs as a child process, and the ways to take it down and bring it back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Final

from broker.engines.ports import LOOPBACK
from broker.engines.probe import answers_mqtt5
from broker.engines.process import ChildProcess, Launch
from schemas.errors import BrokerUnavailableError

_START_LIMIT_S: Final = 20.0
_START_POLL_S: Final = 0.01
_STOP_GRACE_S: Final = 5.0


class RunningBroker:
    """An embedded broker; `start_broker` makes them.

    `engine`, `host`, `port` and `url` never change, also over `restart`; `pid` is that of the current
    or last process. Nothing is persistent: retained messages and sessions end with the process.
    """

    def __init__(self, engine: str, port: int, launch: Callable[[int], Launch]) -> None:
        self.engine: Final = engine
        self.host: Final = LOOPBACK
        self.port: Final = port
        self.url: Final = f"mqtt://{LOOPBACK}:{port}"
        self._launch: Final = launch
        self._child: ChildProcess | None = None

    @property
    def pid(self) -> int:
        """The process's number. Raises BrokerUnavailableError before the first start."""
        return self._life.pid

    @property
    def running(self) -> bool:
        """Whether the process lives, frozen or not."""
        return self._child is not None and self._child.exit_code is None

    async def stop(self, grace_s: float = _STOP_GRACE_S) -> None:
        """End the process with SIGTERM, and with SIGKILL if it lives on after the grace. Harmless when it has ended."""
        child = self._life
        child.signal(signal.SIGTERM)
        child.signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(grace_s):
                await child.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End the process with SIGKILL, as a crash would; on return the port refuses connections."""
        self._life.signal(signal.SIGKILL)
        await self._life.wait()

    async def restart(self) -> None:
        """Start a fresh process on the same port, stopping the current one first; it knows nothing of the past.

        Raises BrokerUnavailableError as `start_broker` does.
        """
        if self._child is not None:
            await self.stop()
            self._child.reap()
        self._child = ChildProcess(self._launch(self.port))
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                await self._until_it_answers(self._child)
        except TimeoutError:
            raise self._failure(f"does not answer on {self.url} within {_START_LIMIT_S:.0f} s") from None

    async def freeze(self) -> None:
        """Stop the process without ending it: connections stay open, and nothing is answered any more."""
        await self._life.freeze()

    async def thaw(self) -> None:
        """Let a frozen process go on; it answers what has arrived in the meantime."""
        self._life.signal(signal.SIGCONT)

    async def wait(self) -> int:
        """Return the exit code once the process has ended, for whatever reason."""
        return await self._life.wait()

    def last_words(self) -> str:
        """Give the last lines that the process wrote to its error stream, on one line."""
        return self._life.last_words()

    def reap(self) -> None:
        """Kill what may still live, without waiting for its goodbye; the last thing to do with a broker."""
        if self._child is not None:
            self._child.reap()

    @property
    def _life(self) -> ChildProcess:
        if self._child is None:
            msg = f"the broker for {self.url} has never run; call restart() first"
            raise BrokerUnavailableError(msg)
        return self._child

    async def _until_it_answers(self, child: ChildProcess) -> None:
        while not await answers_mqtt5(self.host, self.port):
            if child.exit_code is not None:
                raise self._failure(f"ended at its start with code {child.exit_code}")
            await asyncio.sleep(_START_POLL_S)

    def _failure(self, fact: str) -> BrokerUnavailableError:
        words = self.last_words() or "nothing"
        return BrokerUnavailableError(
            f"{self.engine} {fact}; its last words: {words}; remove that cause, or choose another port or engine"
        )
