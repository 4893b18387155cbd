"""The embedded engines, as real processes."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiomqtt
import pytest
import uvloop

from broker.engines import EngineName, RunningBroker, available_engines, hold_port, start_broker
from broker.engines import rumqttd as rumqttd_engine
from broker.engines import start as start_module
from broker.engines.probe import answers_mqtt5, connect_packet
from broker.engines.process import Launch
from schemas.errors import BrokerUnavailableError
from tests.engines import ENGINES, need

ROOT = Path(__file__).parents[2]
LIMIT_S = 20.0
LISTEN = "0A"

START_AND_WAIT = """
import asyncio, sys
from broker.engines import start_broker

async def main():
    async with start_broker(sys.argv[1]) as broker:
        print(broker.pid, broker.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> EngineName:
    return need(request.param)


@pytest.fixture
async def broker(engine: EngineName) -> AsyncIterator[RunningBroker]:
    async with start_broker(engine) as running:
        yield running


def connected(broker: RunningBroker, name: str) -> aiomqtt.Client:
    return aiomqtt.Client(broker.host, broker.port, identifier=name, protocol=aiomqtt.ProtocolVersion.V5, timeout=5)


def wait_for_exit(pidfd: int) -> bool:
    readable, _, _ = select.select([pidfd], [], [], LIMIT_S)
    return bool(readable)


def listeners(pid: int) -> set[str]:
    """Local addresses, as the kernel writes them, on which a process listens (IPv4 and IPv6)."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = str(entry.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1] for row in rows if row[3] == LISTEN and row[9] in inodes}


async def test_it_answers_mqtt5_and_is_gone_afterwards(engine: EngineName) -> None:
    async with start_broker(engine) as broker:
        assert broker.engine == engine
        assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
        assert broker.running
        assert await answers_mqtt5(broker.host, broker.port)
        pidfd = os.pidfd_open(broker.pid)
    assert wait_for_exit(pidfd)
    os.close(pidfd)
    assert not broker.running
    assert not await answers_mqtt5(broker.host, broker.port)


async def test_200_kilobytes_pass_unchanged(broker: RunningBroker) -> None:
    payload = os.urandom(200_000)
    async with asyncio.timeout(LIMIT_S), connected(broker, "one") as client:
        await client.subscribe("t/+", qos=1)
        await client.publish("t/1", payload, qos=1)
        message = await anext(client.messages)
    assert message.payload == payload


async def test_it_listens_on_loopback_and_nowhere_else(broker: RunningBroker) -> None:
    assert listeners(broker.pid) == {f"0100007F:{broker.port:04X}"}


async def test_killed_and_restarted_on_the_same_port(broker: RunningBroker) -> None:
    first, url = broker.pid, broker.url
    await broker.kill()
    assert not broker.running
    assert await broker.wait() == -signal.SIGKILL
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(broker.host, broker.port)
    await broker.restart()
    assert (broker.url, broker.running) == (url, True)
    assert broker.pid != first
    assert await answers_mqtt5(broker.host, broker.port)


async def test_a_restart_forgets_retained_messages(broker: RunningBroker) -> None:
    async with connected(broker, "one") as client:
        await client.publish("kept", b"old", qos=1, retain=True)
    await broker.restart()
    async with asyncio.timeout(LIMIT_S), connected(broker, "two") as client:
        await client.subscribe("kept", qos=1)
        await client.publish("kept", b"new", qos=1)
        message = await anext(client.messages)
    assert message.payload == b"new"


async def test_stop_is_orderly_and_may_be_repeated(broker: RunningBroker) -> None:
    await broker.stop()
    assert await broker.wait() == 0
    await broker.stop()
    await broker.kill()
    await broker.freeze()
    await broker.thaw()


async def test_a_frozen_broker_accepts_but_stays_silent_until_thawed(broker: RunningBroker) -> None:
    await broker.freeze()
    assert broker.running
    reader, writer = await asyncio.open_connection(broker.host, broker.port)
    writer.write(connect_packet("patient"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.readexactly(1)
    await broker.thaw()
    async with asyncio.timeout(LIMIT_S):
        assert (await reader.readexactly(4))[0] == 0x20
    writer.close()
    await writer.wait_closed()


async def test_a_frozen_broker_can_be_stopped(broker: RunningBroker) -> None:
    await broker.freeze()
    await broker.stop()
    assert not broker.running


async def test_two_at_once_are_strangers(engine: EngineName) -> None:
    async with start_broker(engine) as one, start_broker(engine) as other:
        assert one.port != other.port
        await one.kill()
        assert await answers_mqtt5(other.host, other.port)


async def test_a_taken_port_is_named(engine: EngineName) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerUnavailableError, match=rf"127\.0\.0\.1:{port} is taken.*choose port 0"):
            async with start_broker(engine, port=port):
                pytest.fail("it must not start")


@pytest.mark.parametrize("frozen", [False, True])
def test_it_dies_with_a_parent_that_is_killed(engine: EngineName, *, frozen: bool) -> None:
    parent = subprocess.Popen([sys.executable, "-c", START_AND_WAIT, engine], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline().split()[0])
    pidfd = os.pidfd_open(pid)
    if frozen:
        os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_for_exit(pidfd)
    os.close(pidfd)


async def test_the_terminals_interrupt_does_not_reach_it(broker: RunningBroker) -> None:
    assert os.getsid(broker.pid) == broker.pid
    assert os.getpgid(broker.pid) != os.getpgid(0)


async def test_words_of_a_child_that_ends_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; sys.exit('no room left')"
    monkeypatch.setattr(rumqttd_engine, "launch", lambda _: Launch((sys.executable, "-c", script)))
    monkeypatch.setattr(rumqttd_engine, "is_available", lambda: True)
    with pytest.raises(BrokerUnavailableError, match=r"rumqttd ended at its start with code 1.*no room left"):
        async with start_broker("rumqttd"):
            pytest.fail("it must not start")


async def test_a_missing_engine_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rumqttd_engine, "is_available", lambda: False)
    with pytest.raises(BrokerUnavailableError, match=r"'rumqttd' is not installed; install it \(pip install iotcore\)"):
        async with start_broker("rumqttd"):
            pytest.fail("it must not start")
    monkeypatch.setattr(start_module, "available_engines", tuple)
    with pytest.raises(BrokerUnavailableError, match="neither mosquitto nor iotcore"):
        async with start_broker():
            pytest.fail("it must not start")


async def test_auto_prefers_mosquitto_and_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = available_engines()
    assert list(expected) == sorted(expected)
    for name in expected:
        async with start_broker() as broker:
            assert broker.engine == name
        monkeypatch.setattr(start_module.ENGINES[name], "is_available", lambda: False)


async def test_an_exception_of_the_user_ends_the_broker(engine: EngineName) -> None:
    with pytest.raises(ZeroDivisionError):
        async with start_broker(engine) as broker:
            _ = 1 / 0
    assert not broker.running


def test_uvloop_runs_it_too(engine: EngineName) -> None:
    async def main() -> bool:
        async with start_broker(engine) as broker:
            await broker.kill()
            await broker.restart()
            return await answers_mqtt5(broker.host, broker.port)

    assert uvloop.run(main())


def test_a_held_port_goes_to_nobody_else() -> None:
    with hold_port() as port, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with pytest.raises(BrokerUnavailableError, match="70000 is not a TCP port"), hold_port(port=70_000):
        pytest.fail("it must not be held")


Command = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def command() -> Command:
    def run(*arguments: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "broker.engines", *arguments]
        return subprocess.Popen(line, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(engine: EngineName, command: Command, number: signal.Signals) -> None:
    with command("--engine", engine, "--port", "0") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on mqtt://127.0.0.1:")
        assert line.endswith(f" ({engine})\n")
        process.send_signal(number)
        assert process.communicate(timeout=LIMIT_S) == ("", "")
    assert process.returncode == 0


def test_the_command_says_why_it_cannot_start(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, command("--port", str(taken.getsockname()[1])) as process:
        out, err = process.communicate(timeout=LIMIT_S)
    assert (out, process.returncode) == ("", 2)
    assert err.startswith("error: 127.0.0.1:")
    assert err.count("\n") == 1
