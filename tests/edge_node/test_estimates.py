"""Averages, the link's line and predictions by themselves: robust, quick for the worse, steady for the better."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.averages import MARGIN, STABLE, Ewma, Hysteresis, SteadyEwma
from edge_node.estimates import MOST_ATTEMPTS, Estimates, Seen, attempts_for
from edge_node.link_estimate import Line, LinkEstimate
from edge_node.probes import AGAIN_S, Probes
from schemas.policy import Prices
from tests.bundles import tiny_manifest

TIMES = st.floats(0.01, 1e5)
SEEN = Seen(
    payload_bytes=60, bytes_up=130, bytes_down=45, attempts=1, encode_ms=1, wait_ms=60, queue_ms=2, compute_ms=8
)


def test_the_first_observation_replaces_the_prior_and_later_ones_pull() -> None:
    average = Ewma(50.0, weight=0.2)
    average.observe(10)
    assert average.value == 10
    average.observe(20)
    assert average.value == pytest.approx(12)


@given(st.lists(TIMES, min_size=1, max_size=60))
def test_a_steady_average_stays_within_what_was_seen(values: list[float]) -> None:
    average = SteadyEwma(7.0)
    for value in values:
        average.observe(value)
    assert min(values) * (1 - 1e-9) <= average.value <= max(values) * (1 + 1e-9)


@given(TIMES, st.integers(0, 30), st.floats(1.0, 1e3))
def test_one_outlier_moves_nothing(base: float, before: int, factor: float) -> None:
    average = SteadyEwma(0.0)
    for _ in range(2 + before):
        average.observe(base)
    average.observe(base * factor)
    for _ in range(3):
        average.observe(base)
        assert average.value == pytest.approx(base)


@given(st.lists(st.floats(1.0, 1.0 + MARGIN * 0.9), min_size=1, max_size=100), TIMES)
def test_noise_below_the_margin_only_ever_moves_it_up(noise: list[float], base: float) -> None:
    average, values = SteadyEwma(0.0), []
    for factor in noise:
        average.observe(base * factor)
        values.append(average.value)
    assert values == sorted(values)


def test_for_the_worse_it_follows_in_two_and_for_the_better_in_some_more() -> None:
    average = SteadyEwma(0.0)
    for _ in range(20):
        average.observe(50)
    average.observe(400)
    average.observe(400)
    assert average.value > 200
    for _ in range(20):
        average.observe(400)
    values = []
    for _ in range(8):
        average.observe(50)
        values.append(average.value)
    assert values[: STABLE - 1] == pytest.approx([400] * (STABLE - 1), rel=0.01)
    assert values[-1] < 200


def test_a_better_value_is_believed_after_as_many_in_a_row_only() -> None:
    hysteresis = Hysteresis()
    assert [hysteresis.follows(80, 100) for _ in range(3)] == [False, False, True]
    assert [hysteresis.follows(value, 100) for value in (80, 80, 90, 80, 80, 80)] == [False] * 5 + [True]
    assert hysteresis.follows(100, 100)


@given(st.floats(1, 500), st.floats(1e-3, 0.05), st.integers(50, 500), st.integers(5000, 20_000))
def test_frames_of_different_sizes_tell_round_trip_from_rate(
    rtt: float, per_byte: float, small: int, large: int
) -> None:
    link, truth = LinkEstimate(), Line(rtt, per_byte)
    for _ in range(40):
        for size in (small, small, large):
            link.observe(size, truth.ms(size))
    for size in (small, large):
        slack = 2 + 0.1 * truth.ms(large)
        assert 0.8 * truth.ms(size) - slack <= link.line.ms(size) <= 1.4 * truth.ms(size) + slack


def test_the_rate_of_a_slow_link_is_found() -> None:
    link, truth, chance = LinkEstimate(), Line(80, 0.016), random.Random(1)
    for _ in range(200):
        size = chance.choice([120, 1500, 10_000])
        link.observe(size, truth.ms(size) * chance.uniform(0.97, 1.03))
    assert link.line.rtt_ms == pytest.approx(80, rel=0.2)
    assert link.line.bytes_per_s == pytest.approx(62_500, rel=0.2)


def test_with_frames_of_one_size_the_rate_stays_the_one_assumed() -> None:
    link = LinkEstimate()
    for _ in range(50):
        link.observe(130, 70)
    assert link.line.ms(130) == pytest.approx(70)
    assert link.line.ms_per_byte == pytest.approx(Line().ms_per_byte)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e6)), min_size=1, max_size=40))
def test_neither_round_trip_nor_rate_is_ever_below_nothing(seen: list[tuple[float, float]]) -> None:
    link = LinkEstimate()
    for size, ms in seen:
        link.observe(size, ms)
        assert link.line.rtt_ms >= 0
        assert link.line.ms_per_byte >= 0


def test_a_link_that_got_worse_is_known_at_once_and_one_that_got_better_after_three() -> None:
    link = LinkEstimate()
    for _ in range(30):
        link.observe(130, 50)
    link.observe(130, 400)
    link.observe(130, 400)
    assert link.line.ms(130) > 200
    for _ in range(30):
        link.observe(130, 400)
    believed = []
    for _ in range(8):
        link.observe(130, 50)
        believed.append(link.line.ms(130))
    assert believed[:STABLE] == pytest.approx([400] * STABLE, rel=0.01)
    assert believed[-1] < 200


@given(st.floats(5, 2000), st.floats(5, 2000), st.integers(60, 600))
def test_a_step_is_followed_without_overshooting(before: float, after: float, size: int) -> None:
    link = LinkEstimate()
    for ms in [before] * 10 + [after] * 15:
        link.observe(size, ms)
        assert min(before, after) * 0.999 <= link.line.ms(size) <= max(before, after) * 1.001


def test_no_answer_is_news_only_where_one_was_due() -> None:
    link = LinkEstimate()
    for _ in range(10):
        link.observe(130, 50)
    link.unanswered(130, 20)
    assert link.line.ms(130) == pytest.approx(50, rel=0.01)
    link.unanswered(130, 500)
    link.unanswered(130, 500)
    assert link.line.ms(130) > 200


def test_a_prediction_adds_what_the_way_takes_and_costs() -> None:
    manifest, estimates, prices = tiny_manifest(), Estimates(), Prices()
    tail, full = manifest.points[0], manifest.points[2]
    estimates.head_ms.observe(7)
    estimates.answered(tail, SEEN)
    estimates.answered(full, replace(SEEN, compute_ms=18, wait_ms=70, encode_ms=3))
    assert estimates.predict(tail, prices).latency_ms == pytest.approx(7 + 1 + 50 + 2 + 8)
    assert estimates.predict(full, prices).latency_ms == pytest.approx(3 + 50 + 2 + 18)
    predicted = estimates.predict(full, prices)
    assert (predicted.bytes_up, predicted.bytes_down) == pytest.approx((130, 45))
    assert predicted.cost == pytest.approx(prices.cost(cloud_ms=18, bytes_total=175, messages=2))
    estimates.payload(full).observe(1_000_000)
    assert estimates.predict(full, prices).cost > predicted.cost


def test_a_larger_payload_is_predicted_to_take_longer() -> None:
    manifest, estimates = tiny_manifest(), Estimates()
    small, large = manifest.points[0], manifest.points[2]
    estimates.payload(small).observe(100)
    estimates.payload(large).observe(100_000)
    slower = estimates.predict(large, Prices()).latency_ms - estimates.predict(small, Prices()).latency_ms
    assert slower == pytest.approx(99_900 * Line().ms_per_byte - estimates.head_ms.value)


def test_repetitions_are_expected_where_frames_were_lost() -> None:
    point, estimates = tiny_manifest().points[0], Estimates()
    before = estimates.predict(point, Prices())
    for _ in range(6):
        estimates.answered(point, replace(SEEN, attempts=2, bytes_up=260))
    after = estimates.predict(point, Prices())
    assert after.bytes_up == pytest.approx(2 * before.bytes_up, rel=0.2)
    assert after.cost > before.cost


@given(st.floats(0, 1e-2), st.floats(1e-9, 1e-3), st.floats(0, 1e-3))
def test_no_more_is_sent_than_the_budget_pays_for(most: float, once: float, again: float) -> None:
    attempts = attempts_for(most, once, again)
    assert 0 <= attempts <= MOST_ATTEMPTS
    assert attempts == 0 or once + (attempts - 1) * again <= most * (1 + 1e-9)
    assert attempts in {0, MOST_ATTEMPTS} or once + attempts * again > most * (1 - 1e-9)
    assert (attempts == 0) is (once > most)


def test_probes_keep_their_distance_and_hurry_while_they_find_it_better() -> None:
    probes = Probes()
    assert probes.due(0.0, 2.0, recovering=False)
    probes.begin(0.0)
    assert not probes.due(9.0, 2.0, recovering=True)
    probes.end()
    assert not probes.due(1.9, 2.0, recovering=False)
    assert probes.due(2.0, 2.0, recovering=False)
    assert probes.due(AGAIN_S, 2.0, recovering=True)
    assert probes.sent == 1
