"""A child process that cannot outlive this one, and that a Ctrl-C in the terminal does not reach."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_WRAPPER: Final = str(Path(__file__).with_name("_child.py"))
_FIRST_POLL_S: Final = 0.002
_LAST_POLL_S: Final = 0.1
_TAIL_BYTES: Final = 4096
_TAIL_LINES: Final = 8


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start an engine: a command with an absolute path, and what it reads from its standard input."""

    argv: tuple[str, ...]
    stdin: bytes = b""


def tied_to_this_process(argv: Sequence[str]) -> list[str]:
    """Give the command that runs `argv` (an absolute path first) and, on Linux, dies by SIGKILL with this process."""
    return [sys.executable, "-I", "-S", _WRAPPER, str(os.getpid()), *argv]


class ChildProcess:
    """One life of an engine, in a session of its own.

    The kernel kills it when the thread that started it is gone (Linux), also by SIGKILL. No method
    belongs to an event loop: all of them may be called from any, and after the process has ended.
    """

    def __init__(self, launch: Launch) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  closed by `reap`
        with tempfile.TemporaryFile() as stdin:
            stdin.write(launch.stdin)
            stdin.seek(0)
            self._popen = subprocess.Popen(  # noqa: S603  the command is the engine's, no shell is involved
                tied_to_this_process(launch.argv),
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                start_new_session=True,
            )
        self.pid: Final = self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while the process lives, minus the signal's number where one ended it."""
        return self._popen.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        self._popen.send_signal(number)

    async def wait(self) -> int:
        """Return the exit code as soon as the process has ended; cancelling leaves it alone."""
        pause = _FIRST_POLL_S
        while (code := self._popen.poll()) is None:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_POLL_S)
        return code

    async def freeze(self) -> None:
        """Stop the process without ending it; on return every thread of it stands still."""
        self.signal(signal.SIGSTOP)
        while self.exit_code is None and not self._has_stopped():  # noqa: ASYNC110  no event tells
            await asyncio.sleep(_FIRST_POLL_S)

    def _has_stopped(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG) is not None

    def reap(self) -> None:
        """Leave nothing behind: kill the process if it lives, collect it, close its error stream."""
        self._popen.kill()
        self._popen.wait()
        self._stderr.close()

    def last_words(self) -> str:
        """Give the last lines of its error stream, on one line; to be read before `reap`."""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _TAIL_BYTES))
        lines = self._stderr.read().decode(errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-_TAIL_LINES:] if line.strip())
