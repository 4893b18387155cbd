"""Breaker and window by themselves: pure, with the clock given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.breaker import Breaker
from edge_node.window import Window
from schemas.policy import Priority


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


@pytest.mark.parametrize(("priority", "places"), [(Priority.LOW, 8), (Priority.NORMAL, 14), (Priority.HIGH, 16)])
def test_the_last_places_are_for_those_of_a_higher_priority(priority: Priority, places: int) -> None:
    window = Window(size=16)
    assert [window.try_enter(priority) for _ in range(20)].count(True) == places
    assert window.try_enter(Priority.HIGH) is (places < 16)


@pytest.mark.parametrize("priority", Priority)
def test_an_empty_window_has_a_place_for_everybody(priority: Priority) -> None:
    assert Window(size=1).try_enter(priority)
