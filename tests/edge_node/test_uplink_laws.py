"""Breaker, window and estimates by themselves: pure, with the clock given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.breaker import Breaker
from edge_node.estimates import Estimates, Ewma, FadingEwma
from edge_node.window import Window
from schemas.policy import Prices
from tests.bundles import tiny_manifest


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(limit=3, open_s=2.0)
    for _ in range(3):
        assert breaker.try_enter(now)
        breaker.failed(now)
    return breaker


def test_the_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(limit=3)
    for _ in range(10):
        breaker.failed(0)
        breaker.failed(0)
        breaker.succeeded()
    assert breaker.allows(0)
    assert breaker.opened == 0
    assert opened().opened == 1
    assert not opened().allows(1.9)


def test_one_probe_at_a_time_and_its_success_closes() -> None:
    breaker = opened()
    assert [breaker.try_enter(2.0) for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert [breaker.try_enter(2.0) for _ in range(3)] == [True, True, True]
    assert breaker.failures == 0


def test_a_failed_probe_opens_it_for_as_long_again() -> None:
    breaker = opened()
    assert breaker.try_enter(2.0)
    breaker.failed(2.5)
    assert not breaker.allows(4.4)
    assert breaker.try_enter(4.5)
    assert breaker.opened == 1


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    breaker = opened()
    assert breaker.try_enter(2.0)
    breaker.left()
    assert breaker.try_enter(2.0)


@given(st.lists(st.sampled_from(["enter", "ok", "bad", "nothing"]), max_size=200))
def test_the_window_keeps_its_bounds_and_its_count(steps: list[str]) -> None:
    window, inside, refused = Window(least=1, most=8, size=4), 0, 0
    for step in steps:
        before = window.size
        if step == "enter":
            room = inside < int(window.size)
            assert window.try_enter() is room
            inside, refused = inside + room, refused + (not room)
        elif inside:
            inside -= 1
            window.leave(ok={"ok": True, "bad": False, "nothing": None}[step])
            expected = {"ok": min(8, before + 1 / before), "bad": max(1, before / 2), "nothing": before}[step]
            assert window.size == expected
        assert 1 <= window.size <= 8
        assert (window.in_flight, window.refused) == (inside, refused)


def test_a_full_window_of_answers_widens_it_by_about_one() -> None:
    window = Window(size=16)
    for _ in range(16):
        assert window.try_enter()
    for _ in range(16):
        window.leave(ok=True)
    assert window.size == pytest.approx(17, abs=0.1)


def test_the_first_observation_replaces_the_prior_and_later_ones_pull() -> None:
    average = Ewma(50.0, weight=0.2)
    average.observe(10)
    assert average.value == 10
    average.observe(20)
    assert average.value == pytest.approx(12)


def test_a_part_never_seen_is_predicted_by_the_other_and_then_by_itself() -> None:
    estimates = Estimates()
    assert [estimates.expected_wait_ms(part) for part in ("tail", "full")] == [50, 50]
    estimates.wait("tail").observe(400)
    assert estimates.expected_wait_ms("full") == 400
    estimates.wait("full").observe(30)
    assert [estimates.expected_wait_ms(part) for part in ("tail", "full")] == [400, 30]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_nothing_refreshes_fades_to_the_best_or_the_prior() -> None:
    clock = Clock()
    average = FadingEwma(50.0, clock)
    assert average.value == 50
    average.observe(900)
    clock.now = 10.0
    assert average.value == 900
    clock.now = 20.0
    assert average.value == pytest.approx(50 + 850 / 2)
    clock.now = 1000.0
    assert average.value == pytest.approx(50)
    average.observe(10)  # pulls at the faded value, not at the old one
    assert average.value == pytest.approx(42)
    clock.now = 2000.0
    assert average.value == pytest.approx(10)


def test_news_keeps_it_and_a_try_in_vain_brings_it_back() -> None:
    clock = Clock()
    average = FadingEwma(50.0, clock)
    for _ in range(10):
        average.observe(900)
        clock.now += 9
    assert average.value == 900
    clock.now += 31
    assert average.value < 200
    average.hold()
    assert average.value == 900
    clock.now += 10
    assert average.value == 900


def test_what_is_better_than_the_prior_never_gets_worse_by_waiting() -> None:
    clock = Clock()
    average = FadingEwma(50.0, clock)
    average.observe(5)
    clock.now = 1000.0
    assert average.value == 5


def test_a_prediction_adds_what_the_way_takes_and_costs() -> None:
    manifest, estimates, prices = tiny_manifest(), Estimates(), Prices()
    tail, full = manifest.points[0], manifest.points[2]
    estimates.head_ms.observe(7)
    estimates.encode_ms.observe(1)
    estimates.wait("tail").observe(20)
    estimates.wait("full").observe(40)
    assert estimates.predict(tail, prices).latency_ms == 28
    assert estimates.predict(full, prices).latency_ms == 41
    before = estimates.predict(full, prices).cost
    estimates.payload(full).observe(1_000_000)
    assert estimates.predict(full, prices).cost - before == pytest.approx(0.1, rel=0.01)
