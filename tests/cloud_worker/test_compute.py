"""One thread, in order, that cannot hold the process."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cloud_worker.compute import ComputeThread


async def test_calls_run_in_order_on_one_thread() -> None:
    seen: list[tuple[int, threading.Thread]] = []
    with ComputeThread() as thread:
        await asyncio.gather(
            *(thread.call(lambda n=n: seen.append((n, threading.current_thread()))) for n in range(20))  # type: ignore[misc]
        )
    assert [n for n, _ in seen] == list(range(20))
    assert len({who for _, who in seen}) == 1


async def test_what_a_call_raises_is_raised_where_it_was_made() -> None:
    with ComputeThread() as thread:
        with pytest.raises(ZeroDivisionError):
            await thread.call(lambda: 1 // 0)
        assert await thread.call(lambda: 7) == 7


async def test_a_cancelled_call_that_waits_is_not_run() -> None:
    release, ran = threading.Event(), threading.Event()
    with ComputeThread() as thread:
        first = asyncio.ensure_future(thread.call(lambda: release.wait(30)))
        second = asyncio.ensure_future(thread.call(ran.set))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        release.set()
        assert await first
        await thread.call(lambda: None)
    assert not ran.is_set()


def test_a_call_that_outlives_its_loop_harms_nobody() -> None:
    release = threading.Event()

    async def leave(thread: ComputeThread) -> None:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work() -> bool:
            loop.call_soon_threadsafe(started.set)
            return release.wait(30)

        call = asyncio.ensure_future(thread.call(work))
        await started.wait()
        call.cancel()

    with ComputeThread() as thread:
        asyncio.run(leave(thread))
        release.set()
