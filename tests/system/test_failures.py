"""Workers and brokers that die, drain and come back while a node works: each request ends once, and in time."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

from broker.engines import start_broker
from schemas.bundle_files import Bundle
from schemas.policy import Route
from tests.system.load import from_cloud, loaded, node_of, start_workers


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
