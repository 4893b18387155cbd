"""Lines on their way to a terminal or a pipe that may be slow, or gone."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

BACKLOG_BYTES: Final = 4 << 20


class Backlog:
    """Writes lines in a thread of its own, so that whoever puts them never waits.

    - Lines come out in the order in which they were put. What has no room is skipped and counted; where the
      gap is, `notice(count)` is written.
    - When the reader is gone (a closed pipe) `on_broken` is called once, from the thread, and all that is put
      later is forgotten.
    """

    def __init__(
        self, fd: int, notice: Callable[[int], str], on_broken: Callable[[], object], *, cap: int = BACKLOG_BYTES
    ) -> None:
        self._fd, self._notice, self._on_broken, self._cap = fd, notice, on_broken, cap
        self._lines: deque[bytes] = deque()
        self._waiting = self._gap = self._skipped = 0
        self._closed = self._wrote_all = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="printer", daemon=True)
        self._thread.start()

    @property
    def skipped(self) -> int:
        """Lines that were never written for want of room."""
        return self._skipped

    @property
    def has_room(self) -> bool:
        """Whether a line that is put now will be written; making one is for nothing when not."""
        return self._waiting < self._cap

    def put(self, line: str) -> None:
        """Write a line in its turn; skip it when there is no room."""
        data = f"{line}\n".encode(errors="backslashreplace")
        with self._changed:
            if not self.has_room:
                self._skip(1)
                return
            self._tell_gap()
            self._append(data)
            self._changed.notify()

    def skip(self, count: int) -> None:
        """Count lines that were given up before they were made."""
        with self._changed:
            self._skip(count)

    def close(self, timeout_s: float) -> bool:
        """Write what waits and end, within the time given; False when the reader did not take all of it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return self._wrote_all

    def _skip(self, count: int) -> None:
        self._gap += count
        self._skipped += count
        self._changed.notify()

    def _serve(self) -> None:
        try:
            while (data := self._take()) is not None:
                self._write(data)
            self._wrote_all = True
        except OSError:
            if not self._closed:
                self._on_broken()

    def _take(self) -> bytes | None:
        """All that waits and, if there is a gap after it, the notice; None at the end."""
        with self._changed:
            while not (self._lines or self._gap or self._closed):
                self._changed.wait()
            if not (self._lines or self._gap):
                return None
            self._tell_gap()
            data = b"".join(self._lines)
            self._lines.clear()
            self._waiting = 0
            return data

    def _tell_gap(self) -> None:
        if self._gap:
            self._append(f"{self._notice(self._gap)}\n".encode())
            self._gap = 0

    def _append(self, data: bytes) -> None:
        self._lines.append(data)
        self._waiting += len(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody made the terminal non-blocking
                select.select([], [self._fd], [])
