"""`python -m benchmarks demo` and `kpi` as real processes: what they print, and that Ctrl-C leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.children import TEST_IMAGES
from benchmarks.kpi import MODES
from tests.broker.helpers import until

ROOT = Path(__file__).parents[2]
MARK = "SPLITBUS_TEST_MARK"
SMALL = ("--count", "24", "--nodes", "2", "--workers", "1", "--link", "lan", "--images", str(TEST_IMAGES))
LIMIT_S = 45.0


@asynccontextmanager
async def benchmark(*argv: str, mark: str = "") -> AsyncIterator[Process]:
    """A process in a session of its own, with a mark in its environment that its children inherit."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", *argv),
        cwd=ROOT,
        env={**os.environ, MARK: mark},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def marked(mark: str) -> dict[int, str]:
    """Command lines of the living processes with that mark, by their numbers."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is not ours to look at
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


@pytest.mark.parametrize("name", ["demo", "kpi"])
async def test_json_is_one_object_with_a_row_for_each_mode(name: str) -> None:
    async with benchmark(name, "--json", *SMALL) as process:
        out, err = await process.communicate()
    assert process.returncode in {0, 1}, err.decode()  # so few samples may miss a target
    report: dict[str, Any] = json.loads(out)
    assert report["benchmark"] == name
    assert [(row["mode"], row["samples"]) for row in report["rows"]] == [(mode, 24) for mode in MODES]
    assert bool(report["targets"]) == (name == "kpi")
    assert process.returncode == int(not all(target["ok"] for target in report["targets"]))
    edge, whole, hybrid = report["rows"]
    assert (edge["shipped"], whole["shipped"]) == (0.0, 1.0)
    assert 0 < edge["bytes_up"] < hybrid["bytes_up"] < whole["bytes_up"]


@pytest.mark.parametrize("begun", ["cloud_worker", "edge_node"])
async def test_an_interrupt_leaves_no_process_behind(begun: str) -> None:
    mark = secrets.token_hex(8)
    async with benchmark("demo", "--count", "1000", "--images", str(TEST_IMAGES), mark=mark) as process:
        await until(lambda: any(f"-m {begun} run" in each for each in marked(mark).values()))
        assert len(marked(mark)) > 1
        os.killpg(process.pid, signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130, err.decode()
    assert "interrupted" in err.decode()
    assert marked(mark) == {}
