"""The pipeline's processes as children: workers and edge nodes, started, awaited, killed, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from broker.engines.process import tied_to_this_process
from schemas.errors import SplitbusError

BUNDLE = Path("models/fashion_mnist/bundle")
TEST_IMAGES = Path("models/fashion_mnist/test/images-idx3-ubyte.gz")
_LINE_LIMIT = 1 << 20
_STOP_GRACE_S = 25.0
_READY_LIMIT_S = 60.0
_READY = re.compile(r"ready\b")
"""At the start of a line; a log line starts with its time."""


class ChildFailedError(SplitbusError):
    """A process of the pipeline ended with an error, or never became ready."""


class Child:
    """One process with its output as lines. Made by `child_process`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self._log: list[str] = []
        self._ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read_log(), name=f"log of {name}")

    async def ready(self) -> None:
        """Wait for a line that begins with `ready`. Raises ChildFailedError with the last words when none comes."""
        try:
            async with asyncio.timeout(_READY_LIMIT_S):
                if await asyncio.shield(self._ready) and not self.process.returncode:
                    return
                await self.process.wait()
        except TimeoutError:
            raise self._failure(f"is not ready after {_READY_LIMIT_S:g} s") from None
        raise self._failure()

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """JSON objects from stdout until the process ends. Raises ChildFailedError when it ends with an error."""
        stream = self.process.stdout
        assert stream is not None
        async for line in stream:
            yield json.loads(line)
        if await self.process.wait() != 0:
            raise self._failure()

    def kill(self) -> None:
        """SIGKILL, as a crash or a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def stop(self) -> int:
        """SIGTERM, then SIGKILL after a grace; the exit code."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_GRACE_S):
                    await self.process.wait()
            except TimeoutError:
                self.kill()
        code = await self.process.wait()
        await self._reader
        return code

    async def _read_log(self) -> None:
        stream = self.process.stderr
        assert stream is not None
        async for line in stream:
            text = line.decode(errors="replace").rstrip()
            self._log = [*self._log[-50:], text]
            if _READY.match(text):
                self._say_ready(ready=True)
        self._say_ready(ready=False)

    def _say_ready(self, *, ready: bool) -> None:
        if not self._ready.done():
            self._ready.set_result(ready)

    def _failure(self, fact: str = "") -> ChildFailedError:
        fact = fact or f"ended with code {self.process.returncode}"
        return ChildFailedError(f"{self.name} {fact}; its last words: {' | '.join(self._log[-6:]) or 'nothing'}")


@asynccontextmanager
async def child_process(name: str, argv: Sequence[str]) -> AsyncIterator[Child]:
    """Run `python ARGV` in a session of its own; it is stopped when the context ends, killed with this process."""
    process = await asyncio.create_subprocess_exec(
        *tied_to_this_process([sys.executable, *argv]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
        start_new_session=True,
    )
    child = Child(name, process)
    try:
        yield child
    except BaseException:
        child.kill()
        raise
    finally:
        await child.stop()


def worker_argv(broker: str, worker_id: str, *extra: str, bundle: Path = BUNDLE) -> list[str]:
    """Command line of a worker."""
    options = ("--broker", broker, "--id", worker_id, "--bundle", str(bundle), "--trust-unsigned")
    return ["-m", "cloud_worker", "run", *options, *extra]


def node_argv(broker: str, node_id: str, *extra: str, bundle: Path = BUNDLE) -> list[str]:
    """Command line of an edge node that prints its outcomes as JSON lines."""
    return ["-m", "edge_node", "run", "--broker", broker, "--id", node_id, "--bundle", str(bundle), "--json", *extra]
