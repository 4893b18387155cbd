"""Laws of the batcher, in virtual time: nothing here waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_worker.batcher import Batcher, ClosedError, ExpiredError, Finished, OverloadedError
from tests.virtual_time import VirtualTimeLoop, run_virtually

FAR = 1e6


@dataclass(frozen=True)
class Order:
    """One submission of a generated schedule, seconds."""

    at: float
    key: int = 0
    weight: int = 1
    patience: float = FAR
    cancel_after: float | None = None


@dataclass
class Kitchen:
    """A runner that takes `takes` virtual seconds a batch and notes everything."""

    takes: float = 0.0
    batches: list[tuple[float, list[Order]]] = field(default_factory=list)
    done: list[tuple[float, float]] = field(default_factory=list)

    async def run(self, orders: Sequence[Order]) -> list[Order | Exception]:
        start = asyncio.get_running_loop().time()
        self.batches.append((start, list(orders)))
        if self.takes:
            await asyncio.sleep(self.takes)
        self.done.append((start, asyncio.get_running_loop().time()))
        return list(orders)


Ends = dict[int, Finished[Order] | BaseException]


async def play(orders: list[Order], kitchen: Kitchen, **options: float) -> tuple[Ends, Batcher[Order, Order]]:
    """Submit each order at its time; how each ended, by its index."""
    loop = asyncio.get_running_loop()
    batcher = Batcher(kitchen.run, clock=loop.time, **options)  # type: ignore[arg-type]
    ends: Ends = {}

    async def one(index: int, order: Order) -> None:
        await asyncio.sleep(order.at)
        try:
            async with asyncio.timeout(order.cancel_after):
                ends[index] = await batcher.submit(order, order.key, order.weight, order.at + order.patience)
        except Exception as error:  # noqa: BLE001 - every end is a result here
            assert index not in ends
            ends[index] = error

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(batcher.serve())
        async with asyncio.TaskGroup() as customers:
            for index, order in enumerate(orders):
                customers.create_task(one(index, order))
        await batcher.drain()
    return ends, batcher


times = st.integers(0, 60).map(lambda tick: tick / 10)
schedules = st.lists(
    st.builds(
        Order,
        at=times,
        key=st.integers(0, 1),
        weight=st.integers(1, 5),
        patience=st.one_of(st.just(FAR), times.filter(bool)),
        cancel_after=st.one_of(st.none(), st.none(), times.filter(bool)),
    ),
    max_size=24,
)


@given(
    schedules, st.sampled_from([0.0, 0.35, 1.05]), st.sampled_from([0.0, 0.5]), st.integers(1, 8), st.integers(1, 30)
)
def test_every_order_ends_once_and_batches_keep_the_rules(
    orders: list[Order], takes: float, delay: float, max_batch: int, max_queue: int
) -> None:
    kitchen = Kitchen(takes)
    ends, batcher = run_virtually(play(orders, kitchen, max_batch=max_batch, max_delay_s=delay, max_queue=max_queue))
    assert sorted(ends) == list(range(len(orders)))
    served = [id(order) for _, batch in kitchen.batches for order in batch]
    assert len(served) == len(set(served)), "an order ran twice"
    for index, end in ends.items():
        ran = id(orders[index]) in served
        assert ran if isinstance(end, Finished) else (isinstance(end, TimeoutError) or not ran)
    for start, batch in kitchen.batches:
        assert len({order.key for order in batch}) == 1
        assert len(batch) == 1 or sum(order.weight for order in batch) <= max_batch
        assert all(order.at + order.patience > start for order in batch), "expired work ran"
        deadlines = [order.at + order.patience for order in batch]
        assert deadlines == sorted(deadlines)
    for (_, end_of_one), (start_of_next, _) in zip(kitchen.done, kitchen.done[1:], strict=False):
        assert start_of_next >= end_of_one
    statistics = batcher.statistics()
    assert (statistics.queued, statistics.queued_samples, statistics.running) == (0, 0, 0)
    assert statistics.samples == sum(order.weight for _, batch in kitchen.batches for order in batch)
    assert statistics.shed == sum(isinstance(end, ExpiredError) for end in ends.values())
    assert statistics.refused == sum(isinstance(end, OverloadedError) for end in ends.values())


@given(schedules, st.integers(1, 8))
def test_no_batch_overtakes_an_earlier_deadline(orders: list[Order], max_batch: int) -> None:
    kitchen = Kitchen(takes=0.75)
    run_virtually(play(orders, kitchen, max_batch=max_batch, max_queue=1000))
    started = {id(order): start for start, batch in kitchen.batches for order in batch}
    for start, batch in kitchen.batches:
        latest = max(order.at + order.patience for order in batch)
        for other in orders:
            waits = other.at < start < started.get(id(other), -1.0)
            assert not (waits and other.key == batch[0].key) or other.at + other.patience >= latest


@given(st.lists(times, min_size=1, max_size=20), st.sampled_from([0.1, 0.45, 2.0]), st.integers(1, 6))
def test_a_free_runner_waits_for_company_from_the_first_arrival(
    arrivals: list[float], delay: float, max_batch: int
) -> None:
    kitchen = Kitchen()
    run_virtually(play([Order(at) for at in arrivals], kitchen, max_batch=max_batch, max_delay_s=delay))
    for start, batch in kitchen.batches:
        first = min(order.at for order in batch)
        assert start <= first + delay + 1e-6
        assert len(batch) == max_batch or start >= first + delay - 1e-6


def test_a_short_deadline_ends_the_wait_at_half_of_its_time() -> None:
    kitchen = Kitchen()
    ends, _ = run_virtually(play([Order(0.0), Order(0.2, patience=1.0)], kitchen, max_delay_s=10.0))
    assert [start for start, _ in kitchen.batches] == [pytest.approx(0.7)]
    assert isinstance(ends[0], Finished)
    assert ends[0].queued_s == pytest.approx(0.7)


def test_greedy_starts_at_once_and_batches_what_came_meanwhile() -> None:
    kitchen = Kitchen(takes=1.0)
    run_virtually(play([Order(0.0), Order(0.1), Order(0.2), Order(0.3)], kitchen))
    assert [(start, len(batch)) for start, batch in kitchen.batches] == [(0.0, 1), (1.0, 3)]


def test_a_full_queue_refuses_at_once_but_never_holds_what_has_expired() -> None:
    kitchen = Kitchen(takes=5.0)
    orders = [Order(0.0), Order(1.0, weight=3, patience=1.0), Order(1.5), Order(2.5, weight=3)]
    ends, batcher = run_virtually(play(orders, kitchen, max_queue=3))
    assert isinstance(ends[1], ExpiredError)
    assert isinstance(ends[2], OverloadedError)
    assert isinstance(ends[3], Finished)
    assert batcher.statistics().refused == batcher.statistics().shed == 1


def test_a_cancelled_item_leaves_the_queue_and_is_not_run() -> None:
    kitchen = Kitchen(takes=5.0)
    orders = [Order(0.0), Order(1.0, weight=3, cancel_after=1.0), Order(3.0, weight=3)]
    ends, batcher = run_virtually(play(orders, kitchen, max_queue=3))
    assert isinstance(ends[1], TimeoutError)
    assert isinstance(ends[2], Finished), "there is room again"
    assert [batch for _, batch in kitchen.batches] == [[orders[0]], [orders[2]]]
    assert batcher.statistics().refused == 0


def test_drain_does_not_wait_for_company() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        batcher = Batcher(Kitchen().run, max_delay_s=60.0, clock=loop.time)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(batcher.serve())
            work = tasks.create_task(batcher.submit(Order(0.0), 0, 1, FAR))
            await asyncio.sleep(1)
            await batcher.drain()
            assert work.done()
        return loop.time()

    assert run_virtually(main()) == 1.0


def test_an_item_over_the_bounds_runs_alone() -> None:
    kitchen = Kitchen(takes=1.0)
    orders = [Order(0.0), Order(0.5, weight=9), Order(0.6), Order(1.5)]
    ends, _ = run_virtually(play(orders, kitchen, max_batch=4, max_queue=4))
    assert [[order.weight for order in batch] for _, batch in kitchen.batches] == [[1], [9], [1]]
    assert isinstance(ends[2], OverloadedError)


async def test_a_runner_that_raises_fails_only_its_batch() -> None:
    async def run(items: Sequence[int]) -> list[int | Exception]:
        if 13 in items:
            msg = "thirteen"
            raise RuntimeError(msg)
        return [ValueError("odd") if item % 2 else item for item in items]

    batcher = Batcher(run)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(batcher.serve())
        with pytest.raises(RuntimeError, match="thirteen"):
            await batcher.submit(13, "key", 1, batcher.statistics().last_progress + 60)
        soon = batcher.statistics().last_progress + 60
        ends = await asyncio.gather(*(batcher.submit(item, "key", 1, soon) for item in (1, 2)), return_exceptions=True)
        await batcher.drain()
    assert isinstance(ends[0], ValueError)
    assert isinstance(ends[1], Finished)
    assert (ends[1].result, ends[1].batch) == (2, 2)


async def test_a_runner_that_answers_too_few_loses_nobody() -> None:
    async def run(items: Sequence[int]) -> list[int | Exception]:
        return list(items[1:])

    batcher = Batcher(run)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(batcher.serve())
        with pytest.raises(ValueError, match="shorter"):
            await batcher.submit(1, "key", 1, float("inf"))
        await batcher.drain()


async def test_close_fails_what_waits_and_lets_the_running_batch_end() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def run(items: Sequence[int]) -> list[int | Exception]:
        started.set()
        await release.wait()
        return list(items)

    batcher = Batcher(run, max_batch=1)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(batcher.serve())
        first = tasks.create_task(batcher.submit(1, "key", 1, float("inf")))
        second = asyncio.ensure_future(batcher.submit(2, "key", 1, float("inf")))
        await started.wait()
        batcher.close()
        release.set()
        with pytest.raises(ClosedError):
            await second
        assert (await first).result == 1
        await serving
    with pytest.raises(ClosedError):
        await batcher.submit(3, "key", 1, float("inf"))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelling_serve_fails_the_running_batch_too() -> None:
    started = asyncio.Event()

    async def run(items: Sequence[int]) -> list[int | Exception]:
        started.set()
        await asyncio.Event().wait()
        return list(items)

    batcher = Batcher(run, max_batch=1)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(batcher.serve())
        submissions = [asyncio.ensure_future(batcher.submit(item, "key", 1, float("inf"))) for item in range(3)]
        await started.wait()
        assert (batcher.statistics().running, batcher.statistics().queued) == (1, 2)
        serving.cancel()
    ends = await asyncio.gather(*submissions, return_exceptions=True)
    assert [type(end) for end in ends] == [ClosedError] * 3


def test_an_idle_batcher_sets_no_timer() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        batcher = Batcher(Kitchen().run, max_delay_s=0.5, clock=loop.time)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(batcher.serve())
            await batcher.submit(Order(0.0), 0, 1, FAR)
            before = loop.jumps
            await asyncio.sleep(3600)
            jumps = loop.jumps - before
            await batcher.drain()
        return jumps

    assert run_virtually(main()) == 1, "the only timer is this test's own"


def test_progress_counts_from_when_work_came() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        kitchen = Kitchen(takes=10.0)
        batcher = Batcher(kitchen.run, clock=loop.time)
        seen = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(batcher.serve())
            await asyncio.sleep(100)
            work = tasks.create_task(batcher.submit(Order(0.0), 0, 1, FAR))
            await asyncio.sleep(5)
            seen.append(batcher.statistics().last_progress)
            await work
            seen.append(batcher.statistics().last_progress)
            await batcher.drain()
        return seen

    assert run_virtually(main()) == [100.0, 110.0]
