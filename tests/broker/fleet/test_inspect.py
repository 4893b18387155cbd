"""`fleet inspect` as a process, over a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

import pytest

from broker.address import BrokerAddress
from broker.bus import Message
from broker.engines import LOOPBACK, hold_port, start_broker
from broker.fleet.__main__ import main
from broker.link import Link, LinkConfig
from tests.golden.store import FOLDER

WORK, PRESENCE = (FOLDER / "work_1.bin").read_bytes(), (FOLDER / "presence.bin").read_bytes()


async def start(*words: str, broker: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "broker.fleet", "inspect", *words,
        env=os.environ | {"SPLITBUS_BROKER": broker}, stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip


def link(url: str) -> Link:
    return Link(LinkConfig(BrokerAddress.parse(url), "publisher"))


async def test_messages_show_as_they_come_until_ctrl_c() -> None:
    async with start_broker() as broker, link(broker.url) as bus:
        await bus.wait_connected()
        await bus.publish(Message("sb/p/worker/w1", PRESENCE, qos=1, retain=True))
        process = await start(broker=broker.url)
        assert process.stdout is not None
        first = (await process.stdout.readline()).decode()  # by then it is subscribed
        await bus.publish(Message("sb/w/fashion/1.4/cam-1", WORK, correlation=b"12345678"))
        await bus.publish(Message("sb/r/cam-1", b"\x1b[2J"))
        await bus.publish(Message("sb/else", b"?"))
        lines = [(await process.stdout.readline()).decode() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        rest, errors = await process.communicate()
    assert process.returncode == 0
    assert rest == b""
    assert "[retained] online, serves fashion 1.4" in first
    assert "point 0, 250 ms left, 1 sample" in lines[0]
    assert "NOT READABLE" in lines[1]
    assert "unknown" in lines[2]
    assert "\x1b" not in first + "".join(lines)
    summary = errors.decode()
    assert summary.startswith("fleet inspect: 4 messages in ")
    assert "1 presence, 1 work, 1 reply, 1 unknown; 1 of them not readable" in summary


async def test_a_broker_that_was_gone_is_watched_again() -> None:
    async with start_broker() as broker, link(broker.url) as bus:
        process = await start("--count", "2", broker=broker.url)
        assert process.stdout is not None
        for number in range(2):
            await bus.wait_connected()
            await bus.publish(Message(f"sb/p/worker/w{number}", PRESENCE, qos=1, retain=True))
            assert f"w{number}" in (await process.stdout.readline()).decode()
            if number == 0:
                await broker.restart()
        await process.communicate()
    assert process.returncode == 0


async def test_json_filters_and_count() -> None:
    async with start_broker() as broker, link(broker.url) as bus:
        await bus.wait_connected()
        for id_ in ("w1", "w2", "w3"):
            await bus.publish(Message(f"sb/p/worker/{id_}", PRESENCE, qos=1, retain=True))
        process = await start(
            "sb/p/worker/w1", "sb/p/worker/w3", "--json", "--payload", "--count", "2", broker=broker.url
        )
        output, errors = await process.communicate()
    assert process.returncode == 0, errors
    rows = [json.loads(line) for line in output.splitlines()]
    assert sorted(row["id"] for row in rows) == ["w1", "w3"]
    assert {row["payload"] for row in rows} == {PRESENCE.hex()}


def test_nobody_at_the_address_is_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with hold_port(LOOPBACK, 0) as port:
        code = main(["inspect", "--broker", f"mqtt://{LOOPBACK}:{port}", "--connect-timeout", "0.2"])
    assert code == 2
    assert f"no connection to mqtt://{LOOPBACK}:{port} within 0.2 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["sb/#/x"], "not a topic filter"),
        (["a/#", "a/b"], "leave one out"),
        (["--broker", "x"], "broker URL"),
        (["--root", "a/b"], "topic root"),
        (["--count", "0"], "--count: '0' is not a whole number"),
        (["--connect-timeout", "-1"], "--connect-timeout: '-1'"),
    ],
)
def test_bad_input_is_code_2(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *words]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["nothing"], ["inspect", "--nonsense"]])
def test_a_command_line_that_cannot_be_read_is_code_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
