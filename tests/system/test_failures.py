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

from benchmarks.children import child_process, node_argv
from broker.address import BrokerAddress
from broker.link import Link, LinkConfig
from schemas.bundle_files import Bundle
from schemas.messages import Presence, PresenceState
from schemas.policy import Route
from schemas.topics import Topics
from schemas.wire import decode_map
from tests.bundles import samples
from tests.system.load import LIMIT_S, from_cloud, loaded, pipeline


async def test_killing_one_worker_and_then_another(pair: Bundle) -> None:
    dice = random.Random(7)
    async with pipeline(pair, "w1", "w2", "w3") as (_, workers, node), loaded(node) as load:
        for victim in workers[:2]:
            await load.more(dice.randint(10, 30), from_cloud)
            victim.kill()
        await load.more(40, from_cloud)
    load.check_each_ended_once_and_in_time()
    assert await workers[0].process.wait() == -9
    assert node.statistics().counters["requests"] == load.asked
    assert sum(map(from_cloud, load.outcomes)) > 0.7 * load.asked


async def test_a_worker_that_is_told_to_stop_loses_nothing(pair: Bundle) -> None:
    async with pipeline(pair, "w1", "w2") as (_, workers, node), loaded(node, deadline_ms=20_000.0) as load:
        await load.more(20, from_cloud)
        assert await workers[0].stop() == 0
        await load.more(30, from_cloud)
    load.check_each_ended_once_and_in_time()
    assert {(outcome.source, outcome.cloud_status) for outcome in load.outcomes} == {("cloud", "ok")}


async def test_a_broker_that_is_killed_and_comes_back(pair: Bundle) -> None:
    async with pipeline(pair, "w1") as (broker, _, node), loaded(node, deadline_ms=500.0) as load:
        await load.more(20, from_cloud)
        await broker.kill()
        alone = await load.more(10, lambda outcome: outcome.route is Route.FALLBACK_EDGE)
        assert {outcome.source for outcome in alone} == {"edge"}
        assert {outcome.reason.split(";")[0] for outcome in alone} == {"the link to the broker is down"}
        await broker.restart()
        await load.more(20, from_cloud)
    load.check_each_ended_once_and_in_time()


async def test_a_node_that_is_killed_is_mourned_and_nobody_else_suffers(pair: Bundle, tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", samples(8))
    more = ("--source", str(tmp_path / "inputs.npy"), "--route", "hybrid", "--repeat", "--rate", "40")
    async with pipeline(pair, "w1") as (broker, (worker,), node), AsyncExitStack() as stack:
        link = await stack.enter_async_context(Link(LinkConfig(BrokerAddress.parse(broker.url), "watcher")))
        presences = await stack.enter_async_context(link.subscribe(Topics().presence("edge", "victim"), qos=1))
        async with loaded(node) as load, asyncio.timeout(LIMIT_S):
            for life in range(2):  # the second is the same node back again
                argv = node_argv(broker.url, "victim", *more, bundle=pair.path)
                async with child_process(f"victim {life}", argv) as victim:
                    lines = victim.lines()
                    while (await anext(lines))["source"] != "cloud":
                        pass
                    victim.kill()
                    while (seen := decode_map(Presence, (await anext(presences)).message.payload).state) is not (
                        PresenceState.OFFLINE
                    ):
                        assert seen is PresenceState.ONLINE
            await load.more(20, from_cloud)
        assert worker.process.returncode is None
    load.check_each_ended_once_and_in_time()
    assert {(outcome.source, outcome.cloud_status) for outcome in load.outcomes} == {("cloud", "ok")}


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
