"""Requests over real brokers: the deadline in real time, an outage, many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.shaper import PROFILES, Shaper
from broker.bus import Bus, Message
from broker.engines import RunningBroker
from broker.replies import Requester, open_requester
from schemas.errors import NoReplyError
from tests.broker.helpers import linked, unique


@pytest.fixture(params=["mosquitto", "rumqttd"])
def broker(request: pytest.FixtureRequest) -> RunningBroker:
    found: RunningBroker = request.getfixturevalue(request.param)
    return found


@asynccontextmanager
async def echoing(bus: Bus, work: str) -> AsyncIterator[None]:
    async def serve() -> None:
        async with bus.subscribe(work) as subscription:
            ready.set()
            async for delivery in subscription:
                request = delivery.message
                await bus.publish(Message(f"{work}/reply", request.payload, correlation=request.correlation))

    ready = asyncio.Event()
    task = asyncio.create_task(serve())
    await ready.wait()
    yield
    task.cancel()
    await asyncio.wait({task})


async def _ask(requester: Requester, work: str, payload: bytes, within: float) -> bytes:
    deadline = asyncio.get_running_loop().time() + within
    return (await requester.ask(work, payload, deadline=deadline)).message.payload


async def test_five_hundred_requests_at_once_are_answered(broker: RunningBroker) -> None:
    work = unique()
    async with (
        linked(broker.url) as far,
        echoing(far, work),
        linked(broker.url) as bus,
        open_requester(bus, f"{work}/reply") as requester,
    ):
        frames = [b"%d" % number for number in range(500)]
        assert await asyncio.gather(*(_ask(requester, work, frame, 20) for frame in frames)) == frames
        assert requester.statistics().pending == 0


async def test_the_deadline_holds_in_real_time(broker: RunningBroker) -> None:
    loop = asyncio.get_running_loop()
    async with linked(broker.url) as bus, open_requester(bus, unique()) as requester:
        deadline = loop.time() + 0.3
        with pytest.raises(NoReplyError):
            await requester.ask(unique(), b"x", deadline=deadline)
        assert -0.002 < loop.time() - deadline < 0.02


@pytest.mark.parametrize("qos", [0, 1])
async def test_the_deadline_holds_over_a_line_that_has_gone_silent(mosquitto: RunningBroker, qos: int) -> None:
    loop = asyncio.get_running_loop()
    async with (
        Shaper(mosquitto.host, mosquitto.port, PROFILES["LAN"]) as line,
        linked(line.url) as bus,
        open_requester(bus, unique()) as requester,
    ):
        line.stall()
        deadline = loop.time() + 0.3
        with pytest.raises(NoReplyError) as caught:
            await requester.ask(unique(), b"x", deadline=deadline, qos=1 if qos else 0)
        assert loop.time() - deadline < 0.02
        assert caught.value.attempts >= 1
        await line.heal()


async def test_a_cut_before_the_deadline_costs_a_retry_and_no_answer(broker: RunningBroker) -> None:
    work = unique()
    async with (
        Shaper(broker.host, broker.port, PROFILES["LAN"]) as line,
        linked(broker.url) as far,
        echoing(far, work),
        linked(line.url) as bus,
        open_requester(bus, f"{work}/reply") as requester,
    ):
        assert await _ask(requester, work, b"before", 5) == b"before"
        await line.cut()
        asked = asyncio.create_task(_ask(requester, work, b"after", 10))
        await asyncio.sleep(0)
        await line.heal()
        assert await asked == b"after"
        assert bus.statistics().connects == 2
