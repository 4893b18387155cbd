"""`edge-node` as a real process, warnings as errors, without what this environment says of splitbus."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 50.0


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it printed."""
        return self.out.splitlines()

    def check_clear(self, *words: str) -> None:
        """Bad input was said in one line that holds the words, with no traceback; the link's log may say it too."""
        assert self.code == 2, self
        (line,) = [line for line in self.err.splitlines() if "ready " not in line and " WARNING " not in line]
        assert line.startswith("edge-node: error: ")
        assert all(word in line for word in words), line
        assert self.out == ""


async def start(*options: str | Path, **environment: str) -> Process:
    """`edge-node run` with the options."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SPLITBUS_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "edge_node", "run", *map(str, options)),
        cwd=ROOT,
        env={**clean, **environment},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )


async def finish(process: Process) -> Ended:
    """Wait for its end."""
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    ended = Ended(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in ended.err, ended.err
    return ended


async def run(*options: str | Path, **environment: str) -> Ended:
    """Start it and wait for its end."""
    async with started(*options, **environment) as process:
        return await finish(process)


@asynccontextmanager
async def started(*options: str | Path, **environment: str) -> AsyncIterator[Process]:
    """A process that does not outlive the test."""
    process = await start(*options, **environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def read_lines(process: Process, count: int) -> list[str]:
    """So many lines of what it prints."""
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        return [(await process.stdout.readline()).decode().rstrip() for _ in range(count)]
