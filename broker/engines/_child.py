"""Tie this process's life to its parent's, then become the broker.

Run by its path with `PARENT_PID COMMAND...`. On Linux the kernel sends SIGKILL when the parent is
gone, however it went; that order survives the exec below, since no engine changes its user. It is
given here, after the fork, because code between fork and exec is not safe in a parent with threads.
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 65_536


def main(parent: int, command: list[str]) -> None:
    """Replace this process by `command`; end at once where the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)
    _allow_many_connections()
    os.execv(command[0], command)  # noqa: S606  the command is the engine's, no shell is wanted


def _allow_many_connections() -> None:
    """Raise the soft limit of open files, often 1024, as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
