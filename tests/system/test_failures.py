"""Workers and brokers that die, drain and come back while a node works: each request ends once, and in time."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np

from broker.engines import start_broker
from schemas.bundle_files import Bundle
from schemas.policy import Route
from tests.bundles import samples
from tests.system.load import LIMIT_S, from_cloud, loaded, node_of, start_workers


async def test_killing_one_worker_and_then_another(pair: Bundle) -> None:
    dice = random.Random(7)
    async with start_broker() as broker, AsyncExitStack() as stack:
        workers = await start_workers(stack, pair, broker.url, "w1", "w2", "w3")
        node = await stack.enter_async_context(node_of(pair, broker.url))
        assert await node.wait_for_cloud(20)
        async with loaded(node) as load:
            for victim in workers[:2]:
                await load.more(dice.randint(10, 30), from_cloud)
                victim.kill()
            await load.more(40, from_cloud)
    load.check_each_ended_once_and_in_time()
    assert await workers[0].process.wait() == -9
    assert node.statistics().counters["requests"] == load.asked
    assert sum(map(from_cloud, load.outcomes)) > 0.7 * load.asked


async def test_a_worker_that_is_told_to_stop_loses_nothing(pair: Bundle) -> None:
    async with start_broker() as broker, AsyncExitStack() as stack:
        workers = await start_workers(stack, pair, broker.url, "w1", "w2")
        node = await stack.enter_async_context(node_of(pair, broker.url))
        assert await node.wait_for_cloud(20)
        async with loaded(node, deadline_ms=20_000.0) as load:
            await load.more(20, from_cloud)
            assert await workers[0].stop() == 0
            await load.more(30, from_cloud)
    load.check_each_ended_once_and_in_time()
    assert {(outcome.source, outcome.cloud_status) for outcome in load.outcomes} == {("cloud", "ok")}


async def test_a_broker_that_is_killed_and_comes_back(pair: Bundle) -> None:
    async with start_broker() as broker, AsyncExitStack() as stack:
        await start_workers(stack, pair, broker.url, "w1")
        node = await stack.enter_async_context(node_of(pair, broker.url))
        assert await node.wait_for_cloud(20)
        async with loaded(node, deadline_ms=500.0) as load:
            await load.more(20, from_cloud)
            await broker.kill()
            alone = await load.more(10, lambda outcome: outcome.route is Route.FALLBACK_EDGE)
            assert {outcome.source for outcome in alone} == {"edge"}
            assert {outcome.reason for outcome in alone} == {"the link to the broker is down"}
            await broker.restart()
            await load.more(20, from_cloud)
    load.check_each_ended_once_and_in_time()


async def test_a_signal_ends_every_command_that_a_silent_broker_keeps_waiting(pair: Bundle, tmp_path: Path) -> None:
    """Long before its time limit for connecting, without a word, with exit code 0."""
    np.save(tmp_path / "three.npy", samples(3))
    edge = ("edge_node", "run", "--bundle", str(pair.path), "--source", str(tmp_path / "three.npy"))
    commands = [
        ((*edge, "--connect-timeout", "600"), signal.SIGTERM),
        ((*edge, "--offline-ok"), signal.SIGINT),
        (
            ("cloud_worker", "run", "--bundle", str(pair.path), "--trust-unsigned", "--connect-timeout", "600"),
            signal.SIGTERM,
        ),
        (("broker.fleet", "inspect", "--connect-timeout", "600"), signal.SIGINT),
    ]
    async with asyncio.timeout(LIMIT_S):
        ends = await asyncio.gather(*(ended_before_silence(command, number) for command, number in commands))
    assert [(code, said) for code, said, _ in ends] == [(0, "")] * len(commands), ends


async def ended_before_silence(command: tuple[str, ...], number: signal.Signals) -> tuple[int | None, str, str]:
    """Exit code and output of a command that gets a signal once it has asked a broker that never answers."""
    reached = asyncio.Event()

    async def take_and_say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reached.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(take_and_say_nothing, "127.0.0.1", 0) as server:
        url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command), env=os.environ | {"SPLITBUS_BROKER": url}, stdout=PIPE, stderr=STDOUT
        )
        try:
            await reached.wait()
            process.send_signal(number)
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
    return process.returncode, said.decode(), command[0]
