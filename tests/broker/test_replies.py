"""Request and reply: retry, deadline, late and duplicate replies, an outage; in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from broker.bus import Message
from broker.memory import MemoryBus
from broker.packets import publish_size
from broker.replies import RequesterStatistics
from schemas.errors import NoReplyError, TooLargeError
from tests.broker.asking import REPLY, WORK, Pair, asking, silence
from tests.broker.helpers import until
from tests.virtual_time import run_virtually


def test_a_request_gets_the_reply_of_its_correlation() -> None:
    async def main() -> None:
        async with asking() as pair:
            answered = await pair.requester.ask(WORK, b"frame", deadline=1.0)
            (request,) = pair.requests
            assert (answered.message.payload, answered.attempts) == (b"frame", 1)
            assert answered.message.correlation == request.correlation
            assert (request.expiry_s, len(request.correlation or b"")) == (1, 8)
            assert answered.bytes_up == publish_size(request)
            assert answered.bytes_down == publish_size(answered.message)
            assert pair.requester.statistics() == RequesterStatistics(1, 1, 0, 0, 0, 0, 0)

    run_virtually(main())


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_lost_frame_is_sent_again_with_the_same_correlation(lost: int) -> None:
    async def main() -> None:
        async with asking() as pair:
            pair.broker.faults.drop_next = lost
            answered = await pair.requester.ask(WORK, b"x", deadline=60.0)
            frames = [*pair.broker.faults.lost, *pair.requests]
            assert answered.attempts == len(frames) == lost + 1
            assert len({frame.correlation for frame in frames}) == 1
            assert answered.bytes_up == sum(map(publish_size, frames))
            assert pair.now() == pytest.approx(sum(0.25 * 2**n for n in range(lost)))
            assert pair.requester.statistics().retried == lost

    run_virtually(main())


def test_a_lost_reply_is_answered_by_the_retry() -> None:
    async def lose_the_first(pair: Pair, request: Message) -> None:
        pair.broker.faults.drop_next = int(len(pair.requests) == 1)
        await pair.reply(request)

    async def main() -> None:
        async with asking(lose_the_first) as pair:
            assert (await pair.requester.ask(WORK, b"x", deadline=1.0)).attempts == 2

    run_virtually(main())


def test_each_attempt_expires_with_what_is_left() -> None:
    async def main() -> None:
        async with asking(silence) as pair:
            with pytest.raises(NoReplyError):
                await pair.requester.ask(WORK, b"x", deadline=2.5)
            assert [request.expiry_s for request in pair.requests] == [3, 3, 2, 1]

    run_virtually(main())


@pytest.mark.parametrize("deadline", [0.002, 0.2, 0.25, 0.3, 1.0, 30.0])
def test_no_reply_is_an_error_exactly_at_the_deadline(deadline: float) -> None:
    async def main() -> None:
        async with asking(silence) as pair:
            with pytest.raises(NoReplyError, match="no reply to w/node after") as caught:
                await pair.requester.ask(WORK, b"x", deadline=deadline)
            assert deadline - 0.001 <= pair.now() <= deadline + 1e-6
            assert caught.value.attempts == len(pair.requests)
            assert caught.value.bytes_up == sum(map(publish_size, pair.requests))
            assert pair.requester.statistics().unanswered == 1

    run_virtually(main())


@pytest.mark.parametrize("deadline", [-1.0, 0.0])
def test_a_deadline_in_the_past_sends_nothing_and_takes_no_time(deadline: float) -> None:
    async def main() -> None:
        async with asking() as pair:
            with pytest.raises(NoReplyError) as caught:
                await pair.requester.ask(WORK, b"x", deadline=deadline)
            assert (caught.value.attempts, pair.requests, pair.now()) == (0, [], 0.0)
            assert pair.requester.statistics().pending == 0

    run_virtually(main())


def test_replies_after_the_deadline_are_late_and_second_ones_duplicates() -> None:
    async def main() -> None:
        async with asking(silence) as pair:
            with pytest.raises(NoReplyError):
                await pair.requester.ask(WORK, b"late", deadline=0.2)
            await pair.reply(pair.requests[0])
            asked = asyncio.create_task(pair.requester.ask(WORK, b"twice", deadline=10.0))
            await until(lambda: len(pair.requests) == 2)
            pair.broker.faults.duplicate_next = 1
            await pair.reply(pair.requests[1])
            await asked
            await pair.reply(pair.requests[1])
            await pair.far.publish(Message(REPLY, b"stranger", correlation=b"????????"))
            await pair.far.publish(Message(REPLY, b"no correlation"))
            await asyncio.sleep(0.001)
            statistics = pair.requester.statistics()
            assert (statistics.late, statistics.duplicate, statistics.answered) == (3, 2, 1)

    run_virtually(main())


def test_a_link_that_is_back_before_the_deadline_still_gets_the_answer() -> None:
    async def main() -> None:
        async with asking() as pair:
            pair.bus.drop()
            asked = asyncio.create_task(pair.requester.ask(WORK, b"x", deadline=10.0))
            await asyncio.sleep(5.0)
            pair.bus.connect()
            answered = await asked
            assert answered.attempts == 1
            assert pair.now() == pytest.approx(5.0, abs=0.01)
            assert pair.requester.timer.smoothed_s is None  # an outage is no round trip

    run_virtually(main())


def test_a_link_that_stays_down_is_an_error_at_the_deadline() -> None:
    async def main() -> None:
        async with asking() as pair:
            pair.bus.drop()
            with pytest.raises(NoReplyError) as caught:
                await pair.requester.ask(WORK, b"x", deadline=3.0)
            assert caught.value.attempts == caught.value.bytes_up == 0
            assert pair.now() == pytest.approx(3.0, abs=0.002)

    run_virtually(main())


def test_a_reply_lost_in_an_outage_is_asked_for_again_after_it() -> None:
    async def break_the_line_once(pair: Pair, request: Message) -> None:
        if len(pair.requests) == 1:
            pair.bus.drop()
            await asyncio.sleep(1.0)
            pair.bus.connect()
            return
        await pair.reply(request)

    async def main() -> None:
        async with asking(break_the_line_once) as pair:
            answered = await pair.requester.ask(WORK, b"x", deadline=10.0)
            assert answered.attempts == 2
            assert pair.now() == pytest.approx(1.0, abs=0.01)

    run_virtually(main())


def test_an_answer_after_a_repetition_counts_from_the_first_frame() -> None:
    async def main() -> None:
        async with asking() as pair:
            pair.broker.faults.drop_next = 1
            answered = await pair.requester.ask(WORK, b"x", deadline=10.0)
            assert pair.requester.timer.smoothed_s == pytest.approx(answered.waited_s, rel=0.1)
            assert answered.waited_s == pytest.approx(0.25, rel=0.1)

    run_virtually(main())


def test_a_round_trip_longer_than_the_timeout_is_not_repeated_for_good() -> None:
    async def late(pair: Pair, request: Message) -> None:
        await asyncio.sleep(0.9)
        await pair.reply(request)

    async def main() -> None:
        async with asking(late) as pair:
            attempts = [(await pair.requester.ask(WORK, b"x", deadline=60.0)).attempts for _ in range(12)]
            assert attempts[0] > 1
            assert attempts[-3:] == [1, 1, 1]

    run_virtually(main())


def test_no_more_frames_go_out_than_may() -> None:
    async def main() -> None:
        async with asking() as pair:
            pair.broker.faults.drop_next = 1 << 30
            with pytest.raises(NoReplyError) as caught:
                await pair.requester.ask(WORK, b"x", deadline=10.0, most_attempts=2)
            assert (caught.value.attempts, pair.now()) == (2, pytest.approx(10.0, abs=0.01))

    run_virtually(main())


def test_five_hundred_requests_at_once_each_get_their_own_reply() -> None:
    async def main() -> None:
        async with asking() as pair:
            pair.broker.faults.drop_next = 100
            frames = [b"%d" % number for number in range(500)]
            answers = await asyncio.gather(*(pair.requester.ask(WORK, x, deadline=10.0) for x in frames))
            assert [answered.message.payload for answered in answers] == frames
            statistics = pair.requester.statistics()
            assert (statistics.asked, statistics.answered, statistics.retried) == (500, 500, 100)
            assert (statistics.pending, statistics.late, statistics.duplicate) == (0, 0, 0)

    run_virtually(main())


def test_an_error_of_the_bus_reaches_who_asked_and_leaves_nothing_pending() -> None:
    class Strict(MemoryBus):
        async def publish(self, message: Message) -> None:
            raise TooLargeError(message.topic, 2, 1, "send less")

    async def main() -> None:
        async with asking() as pair:
            pair.requester._bus = Strict(pair.broker)
            with pytest.raises(TooLargeError):
                await pair.requester.ask(WORK, b"x", deadline=1.0)
            assert pair.requester.statistics().pending == 0

    run_virtually(main())
