"""An output that is slow, or gone, never holds up whoever writes to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from broker.fleet.backlog import Backlog


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def read_all(fd: int) -> str:
    with os.fdopen(os.dup(fd), "rb") as file:
        return file.read().decode()


def test_lines_come_out_in_order(pipe: tuple[int, int]) -> None:
    backlog = Backlog(pipe[1], str, lambda: None)
    for number in range(100):
        backlog.put(f"line {number}")
    assert backlog.close(5)
    os.close(pipe[1])
    assert read_all(pipe[0]).splitlines() == [f"line {number}" for number in range(100)]
    assert backlog.skipped == 0


def test_what_a_slow_reader_has_no_room_for_is_skipped_and_said(pipe: tuple[int, int]) -> None:
    backlog = Backlog(pipe[1], lambda count: f"gap of {count}", lambda: None, cap=10_000)
    total = 3000
    for _ in range(total):
        backlog.put("x" * 99)
    assert not backlog.has_room
    assert backlog.skipped > 0
    text: list[str] = []
    reader = threading.Thread(target=lambda: text.append(read_all(pipe[0])))
    reader.start()
    backlog.close(5)
    os.close(pipe[1])
    reader.join(5)
    lines = text[0].splitlines()
    gaps = sum(int(line.removeprefix("gap of ")) for line in lines if line.startswith("gap"))
    assert gaps == backlog.skipped
    assert lines.count("x" * 99) == total - backlog.skipped


def test_a_gap_stands_before_what_comes_after_it(pipe: tuple[int, int]) -> None:
    backlog = Backlog(pipe[1], lambda count: f"gap of {count}", lambda: None)
    backlog.skip(7)
    backlog.put("after")
    backlog.close(5)
    os.close(pipe[1])
    assert read_all(pipe[0]).splitlines() == ["gap of 7", "after"]


def test_a_reader_that_is_gone_is_told_once(pipe: tuple[int, int]) -> None:
    broken = threading.Event()
    backlog = Backlog(pipe[1], str, broken.set)
    os.close(pipe[0])
    backlog.put("into the void")
    assert broken.wait(5)
    backlog.put("forgotten")
    assert not backlog.close(5)


def test_a_reader_that_takes_nothing_does_not_keep_anybody(pipe: tuple[int, int]) -> None:
    backlog = Backlog(pipe[1], str, lambda: None)
    backlog.put("x" * (1 << 20))
    assert not backlog.close(0.01)
    os.close(pipe[0])
