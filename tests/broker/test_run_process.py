"""How a command starts and ends, shown by real processes and real signals."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.process import until_stopped
from schemas.errors import ConfigError

ROOT = Path(__file__).parents[2]
FRAME = """
import asyncio, sys
from broker.process import run_process, until_stopped
from schemas.errors import ConfigError, BrokerUnavailableError

async def main(stop):
{body}

sys.exit(run_process("prog", main))
"""
UNTIL_STOPPED = "print('ready', flush=True)\nawait stop.wait()\nprint('stopping', flush=True)\n"


@contextmanager
def running(body: str) -> Iterator[subprocess.Popen[str]]:
    code = FRAME.format(body="\n".join(f"    {line}" for line in body.splitlines()))
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ending(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_main_that_returns_is_a_success() -> None:
    with running("print(type(asyncio.get_running_loop()).__module__)") as process:
        assert ending(process) == (0, "uvloop\n", "")


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("raise ConfigError('no such option')", ["prog: error: no such option"]),
        (
            "raise ExceptionGroup('x', [ConfigError('a'), ExceptionGroup('y', [BrokerUnavailableError('b')])])",
            ["prog: error: a", "prog: error: b"],
        ),
    ],
)
def test_an_error_of_ours_is_one_line_and_exit_code_2(body: str, lines: list[str]) -> None:
    with running(body) as process:
        code, _, err = ending(process)
    assert (code, err.splitlines()) == (2, lines)


def test_an_unforeseen_error_is_a_traceback_and_exit_code_1() -> None:
    with running("raise ZeroDivisionError('oops')") as process:
        code, _, err = ending(process)
    assert code == 1
    assert "Traceback" in err
    assert "ZeroDivisionError: oops" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_main_finish_what_it_has_begun(number: signal.Signals) -> None:
    with running(UNTIL_STOPPED) as process:
        assert line_of(process) == "ready"
        process.send_signal(number)
        assert ending(process) == (0, "stopping\n", "")


def test_a_second_interrupt_cancels_a_main_that_does_not_finish() -> None:
    body = UNTIL_STOPPED + "try:\n    await asyncio.Event().wait()\nfinally:\n    print('cleaned', flush=True)\n"
    with running(body) as process:
        assert line_of(process) == "ready"
        process.send_signal(signal.SIGINT)
        assert line_of(process) == "stopping"
        process.send_signal(signal.SIGINT)
        assert ending(process) == (130, "cleaned\n", "")


def test_a_second_term_does_not_cut_the_finish_short() -> None:
    body = UNTIL_STOPPED + "await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)\nprint('done')\n"
    code = FRAME.format(body="\n".join(f"    {line}" for line in body.splitlines()))
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert line_of(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert line_of(process) == "stopping"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate("go on\n", timeout=20)
    assert (process.returncode, out) == (0, "done\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_what_is_waited_for_at_once_and_cleanly(number: signal.Signals) -> None:
    body = """
async def connect():
    print('ready', flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print('cleaned', flush=True)

print(await until_stopped(stop, connect()), stop.is_set())
"""
    with running(body) as process:
        assert line_of(process) == "ready"
        process.send_signal(number)
        assert ending(process) == (0, "cleaned\nNone True\n", "")


async def _says(what: str) -> str:
    await asyncio.sleep(0)
    return what


async def _fails() -> None:
    await asyncio.sleep(0)
    raise ConfigError("no such broker")


async def test_without_a_stop_it_is_as_if_awaited() -> None:
    stop = asyncio.Event()
    assert await until_stopped(stop, _says("done")) == "done"
    with pytest.raises(ConfigError, match="no such broker"):
        await until_stopped(stop, _fails())
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stop_that_came_before_lets_nothing_finish() -> None:
    stop = asyncio.Event()
    stop.set()
    assert await until_stopped(stop, _says("done")) is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_caller_that_is_cancelled_takes_it_along() -> None:
    ended = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    caller = asyncio.create_task(until_stopped(asyncio.Event(), wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    assert ended.is_set()
