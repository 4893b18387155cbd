"""Real worker processes on a real broker: ready, answering, drained, and clear about what they cannot use."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.address import BrokerAddress
from broker.bus import Message, Subscription
from broker.engines import EngineName, start_broker
from broker.engines.ports import hold_port
from broker.link import Link, LinkConfig
from schemas.bundle_files import Bundle
from schemas.messages import Presence, PresenceState, Status, Work
from schemas.topics import Topics
from schemas.wire import decode_map, decode_reply, encode_work
from tests.bundles import MINMAX_POINT, make_bundle, samples, tiny_pair
from tests.engines import ENGINES, need

ROOT = Path(__file__).parents[2]
TOPICS = Topics()
NODE = "cam-1"
LIMIT_S = 40.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


async def start(bundle: Bundle | Path, url: str, *options: str) -> Process:
    path = bundle.path if isinstance(bundle, Bundle) else bundle
    command = ["-m", "cloud_worker", "run", "--bundle", str(path), "--broker", url, *options]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SPLITBUS_")}
    return await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, env=clean, stderr=PIPE)


async def until_ready(process: Process) -> str:
    """The line that says so."""
    assert process.stderr is not None
    said = []
    async with asyncio.timeout(LIMIT_S):
        while line := (await process.stderr.readline()).decode():
            said.append(line)
            if line.startswith("ready "):
                return line
    pytest.fail(f"the worker ended before it was ready: {''.join(said)}")


async def ended(process: Process) -> tuple[int, str]:
    """Exit code, and what was still said on stderr."""
    async with asyncio.timeout(LIMIT_S):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


@asynccontextmanager
async def workers(bundle: Bundle, url: str, *names: str) -> AsyncIterator[list[Process]]:
    """Workers that are ready; none is left on exit."""
    processes = [await start(bundle, url, "--trust-unsigned", "--id", name, "--max-batch", "4") for name in names]
    try:
        for process in processes:
            await until_ready(process)
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.communicate()


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[Link]:
    async with Link(LinkConfig(BrokerAddress.parse(url), client_id="test-node")) as link:
        await link.wait_connected(LIMIT_S)
        yield link


def frame(bundle: Bundle, number: int) -> Message:
    manifest = bundle.manifest
    point = manifest.point(MINMAX_POINT)
    assert point is not None
    payload = bundle.codec(point).encode(tiny_pair().cut(samples(1, seed=number)[0]))
    work = Work(interface=manifest.frame_digest, point=point.id, deadline_ms=30_000, payloads=(payload,))
    topic = TOPICS.work(manifest.name, manifest.line, NODE)
    return Message(topic, encode_work(work), correlation=number.to_bytes(8, "big"), expiry_s=30)


async def presence_becomes(presences: Subscription, state: PresenceState) -> None:
    async with asyncio.timeout(LIMIT_S):
        async for delivery in presences:
            if decode_map(Presence, delivery.message.payload).state is state:
                return


@pytest.mark.parametrize("engine", ENGINES)
async def test_sigterm_under_load_loses_nothing(bundle: Bundle, engine: EngineName) -> None:
    """Two workers, a steady stream without retries; one is told to stop, and every frame is answered."""
    total, window = 400, 24
    answered: dict[int, int] = {}
    async with start_broker(need(engine)) as broker, workers(bundle, broker.url, "w1", "w2") as (first, second):
        async with (
            linked(broker.url) as node,
            node.subscribe(TOPICS.reply(NODE)) as replies,
            node.subscribe(TOPICS.presence("worker", "w1")) as presences,
        ):
            frames = [frame(bundle, number) for number in range(total)]
            for message in frames[:window]:
                await node.publish(message)
            sent = window
            async with asyncio.timeout(LIMIT_S):
                async for delivery in replies:
                    reply = decode_reply(delivery.message.payload)
                    assert reply.status is Status.OK
                    number = int.from_bytes(delivery.message.correlation or b"", "big")
                    answered[number] = answered.get(number, 0) + 1
                    if len(answered) == total // 4:
                        first.send_signal(signal.SIGTERM)
                    if sent < total:
                        await node.publish(frames[sent])
                        sent += 1
                    if len(answered) == total:
                        break
            assert await ended(first) == (0, "")
            await presence_becomes(presences, PresenceState.STOPPED)
        second.send_signal(signal.SIGINT)
        assert await ended(second) == (0, "")
    assert set(answered.values()) == {1}


async def test_ready_says_what_is_served_and_answers_are_the_models(bundle: Bundle) -> None:
    async with start_broker() as broker, linked(broker.url) as node:
        async with node.subscribe(TOPICS.presence("worker", "w9")) as presences:
            process = await start(bundle, broker.url, "--trust-unsigned", "--id", "w9")
            line = await until_ready(process)
            births = [decode_map(Presence, (await anext(presences)).message.payload).state for _ in range(2)]
        assert births == [PresenceState.STOPPED, PresenceState.ONLINE], "it is online when it is subscribed"
        assert line == f"ready id=w9 line=tiny/1.0 interface={bundle.manifest.interface}\n"
        async with node.subscribe(TOPICS.reply(NODE)) as replies, asyncio.timeout(LIMIT_S):
            await node.publish(frame(bundle, 3))
            reply = decode_reply((await anext(replies)).message.payload)
        logits = tiny_pair().logits(tiny_pair().cut(samples(1, seed=3)[0]))
        assert reply.answers[0].label == int(logits.argmax())
        process.terminate()
        assert (await ended(process))[0] == 0


async def test_bad_bundles_and_brokers_end_with_two_and_a_remedy(bundle: Bundle, tmp_path: Path) -> None:
    with hold_port() as port:
        url = f"mqtt://127.0.0.1:{port}"
        cases: list[tuple[Bundle | Path, tuple[str, ...], str]] = [
            (tmp_path / "none", (), "there is no bundle at"),
            (bundle, (), "--trust-unsigned"),
            (bundle, ("--trust-unsigned", "--connect-timeout", "0.2"), "start a broker there"),
            (bundle, ("--trust-unsigned", "--max-batch", "65"), "lower --max-batch"),
        ]
        processes = [await start(path, url, *options) for path, options, _ in cases]
        for process, (_, _, remedy) in zip(processes, cases, strict=True):
            code, errors = await ended(process)
            last = errors.strip().splitlines()[-1]
            assert (code, last.startswith("cloud-worker: error: "), remedy in last) == (2, True, True), errors
            assert "Traceback" not in errors
