"""Laws of the retry timer, the back-off and the order of acknowledgements."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.acks import AckOrder
from broker.backoff import Backoff
from broker.rto import RetryTimer

ROUND_TRIPS = st.lists(st.floats(1e-5, 10.0), max_size=60)


@given(ROUND_TRIPS, st.integers(0, 1000))
def test_a_timeout_is_at_least_the_floor_and_at_most_the_cap(samples: list[float], attempt: int) -> None:
    timer = RetryTimer()
    for sample in samples:
        timer.sample(sample)
    assert timer.floor_s <= timer.timeout(attempt) <= timer.cap_s
    assert timer.timeout(attempt + 1) >= timer.timeout(attempt)


@given(ROUND_TRIPS.filter(bool))
def test_the_smoothed_time_stays_within_what_was_measured(samples: list[float]) -> None:
    timer = RetryTimer()
    for sample in samples:
        timer.sample(sample)
    assert timer.smoothed_s is not None
    assert min(samples) - 1e-9 <= timer.smoothed_s <= max(samples) + 1e-9
    assert 0 <= timer.variation_s <= max(samples)


def test_the_first_sample_sets_the_timer_as_rfc_6298_says() -> None:
    timer = RetryTimer(floor_s=0.0)
    assert timer.timeout(0) == timer.initial_s
    timer.sample(0.1)
    assert (timer.smoothed_s, timer.variation_s) == (0.1, 0.05)
    assert timer.timeout(0) == pytest.approx(0.1 + 4 * 0.05)
    timer.sample(0.3)
    assert timer.variation_s == pytest.approx(0.75 * 0.05 + 0.25 * 0.2)
    assert timer.smoothed_s == pytest.approx(0.875 * 0.1 + 0.125 * 0.3)


def test_a_steady_round_trip_is_not_repeated_too_early_nor_waited_for_long() -> None:
    timer = RetryTimer()
    for _ in range(100):
        timer.sample(0.02)
    assert 0.02 < timer.timeout(0) < 0.1
    assert timer.timeout(1) == pytest.approx(2 * timer.timeout(0))


@given(st.integers(), st.floats(0.01, 1.0), st.floats(1.0, 60.0))
def test_a_back_off_is_within_its_doubling_ceiling(seed: int, base: float, cap: float) -> None:
    backoff = Backoff(base, cap, random.Random(seed))
    for number in range(50):
        assert 0 <= backoff.next() <= min(cap, base * 2.0**number)


def test_a_back_off_grows_to_its_cap_and_begins_anew_after_a_success() -> None:
    backoff = Backoff(0.1, 30.0, random.Random(1))
    grown = [backoff.next() for _ in range(300)]
    assert max(grown) > 25
    assert sum(grown[100:]) / 200 == pytest.approx(15, rel=0.2)
    backoff.reset()
    assert backoff.next() <= 0.1


def test_two_processes_do_not_come_back_in_step() -> None:
    assert [Backoff().next() for _ in range(5)] != [Backoff().next() for _ in range(5)]


@given(st.permutations(list(range(12))), st.integers(0, 12))
def test_acknowledgements_leave_in_order_of_receipt_as_early_as_that_allows(done: list[int], stop: int) -> None:
    sent: list[int] = []
    order = AckOrder(sent.append)
    acks = [order.expect(100 + number) for number in range(12)]
    finished: set[int] = set()
    for number in done[:stop]:
        acks[number]()
        acks[number]()
        finished.add(number)
        due = next((n for n in range(12) if n not in finished), 12)
        assert sent == [100 + n for n in range(due)]
    order.close()
    before = list(sent)
    for ack in acks:
        ack()
    assert sent == before
