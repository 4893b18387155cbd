"""The unlucky moments of a request: exactly at a retry, at the deadline, while publishing, after a cancellation."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.bus import Message
from broker.memory import MemoryBus
from broker.replies import Requester
from schemas.errors import NoReplyError, NotConnectedError
from tests.broker.asking import WORK, Answer, Pair, asking, echo, silence
from tests.virtual_time import run_virtually


@given(delay=st.sampled_from([0.0, 0.2, 0.249, 0.25, 0.251, 0.5, 0.75, 0.999, 1.0, 1.001, 1.2]))
def test_exactly_one_of_reply_and_error_comes_whenever_the_reply_does(delay: float) -> None:
    async def main() -> None:
        async def later(pair: Pair, request: Message) -> None:
            if len(pair.requests) == 1:
                await asyncio.sleep(delay)
                await pair.reply(request)

        async with asking(later) as pair:
            try:
                answered = await pair.requester.ask(WORK, b"x", deadline=1.0)
            except NoReplyError:
                assert delay >= 0.998
            else:
                assert delay <= 1.0
                assert answered.message.payload == b"answer"
            assert pair.now() <= 1.0 + 1e-6
            await asyncio.sleep(2.0)
            statistics = pair.requester.statistics()
            assert statistics.answered + statistics.unanswered == 1
            assert statistics.answered + statistics.late == 1
            assert statistics.pending == 0

    run_virtually(main())


class TakenInHand(MemoryBus):
    """A bus whose publish does what the test wants after the message went out."""

    trouble: Exception | None = None
    held_s = 0.0

    async def publish(self, message: Message) -> None:
        await super().publish(message)
        if self.held_s:
            await asyncio.sleep(self.held_s)
        if self.trouble is not None:
            raise self.trouble


def _with_troubled_bus(pair: Pair) -> TakenInHand:
    bus = TakenInHand(pair.broker)
    bus.connect()
    pair.requester._bus = bus
    return bus


def test_a_reply_that_came_before_the_connection_broke_counts() -> None:
    async def main() -> None:
        async with asking() as pair:
            bus = _with_troubled_bus(pair)
            bus.held_s, bus.trouble = 0.01, NotConnectedError("no acknowledgement came")
            answered = await pair.requester.ask(WORK, b"x", deadline=1.0)
            assert answered.message.payload == b"x"
            assert len(pair.requests) == 1
            assert pair.now() < 0.1

    run_virtually(main())


@pytest.mark.parametrize("answer", [echo, silence])
def test_a_publish_that_hangs_does_not_hold_the_deadline_up(answer: Answer) -> None:
    async def main() -> None:
        async with asking(answer) as pair:
            _with_troubled_bus(pair).held_s = 5.0
            if answer is echo:
                await pair.requester.ask(WORK, b"x", deadline=0.5)
            else:
                with pytest.raises(NoReplyError) as caught:
                    await pair.requester.ask(WORK, b"x", deadline=0.5)
                assert caught.value.attempts == 1
            assert pair.now() <= 0.5 + 1e-6

    run_virtually(main())


def test_a_bus_that_says_connected_and_fails_each_publish_is_not_asked_in_a_spin() -> None:
    async def main() -> None:
        async with asking(silence) as pair:
            _with_troubled_bus(pair).trouble = NotConnectedError("about to be noticed")
            with pytest.raises(NoReplyError):
                await pair.requester.ask(WORK, b"x", deadline=1.0)
            assert 1 <= len(pair.requests) <= 250

    run_virtually(main())


@pytest.mark.parametrize("after", [0.0, 0.1, 0.25, 0.3])
def test_a_cancelled_request_leaves_nothing_pending_and_its_reply_is_late(after: float) -> None:
    async def main() -> None:
        async with asking(silence) as pair:
            asked = asyncio.create_task(pair.requester.ask(WORK, b"x", deadline=10.0))
            await asyncio.sleep(after)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert pair.requester.statistics().pending == 0
            sent = len(pair.requests)
            for request in pair.requests:
                await pair.reply(request)
            await asyncio.sleep(5.0)
            assert pair.requester.statistics().late == len(pair.requests) == sent

    run_virtually(main())


def test_a_cancellation_while_the_link_is_down_leaves_nothing_pending() -> None:
    async def main() -> None:
        async with asking() as pair:
            pair.bus.drop()
            asked = asyncio.create_task(pair.requester.ask(WORK, b"x", deadline=10.0))
            await asyncio.sleep(1.0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert pair.requester.statistics().pending == 0

    run_virtually(main())


def test_what_is_remembered_of_requests_that_are_over_is_bounded() -> None:
    async def main() -> None:
        async with asking() as pair:
            for _ in range(4500):
                await pair.requester.ask(WORK, b"x", deadline=pair.now() + 1.0)
            assert len(pair.requester._over) == len(pair.requester._order) == 4096
            assert pair.requester._pending == {}

    run_virtually(main())


def test_correlations_are_unique_in_a_process_and_between_two() -> None:
    async def main() -> None:
        async with asking() as pair:
            for _ in range(50):
                await pair.requester.ask(WORK, b"x", deadline=1.0)
            other = Requester(pair.bus)
            ours = [request.correlation for request in pair.requests]
            assert len(set(ours)) == 50
            assert other._correlation() not in ours

    run_virtually(main())
