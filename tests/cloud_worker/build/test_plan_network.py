"""The latency model: by hand, against drawn losses, and the same links as the emulator's."""

from __future__ import annotations

import random

import pytest
from pydantic import ValidationError

from benchmarks.links import PROFILES
from cloud_worker.build.plan.network import BEYOND_BYTES, LINKS, Link, segments_of


def link(loss: float, rtt_ms: float = 50) -> Link:
    return Link(rtt_ms=rtt_ms, up_mbit_s=8, down_mbit_s=16, loss=loss)


def test_the_links_are_those_that_the_emulator_has() -> None:
    emulated = {name: (each.rtt_ms, each.up_mbit, each.down_mbit) for name, each in PROFILES.items()}
    assert {name: (each.rtt_ms, each.up_mbit_s, each.down_mbit_s) for name, each in LINKS.items()} == emulated
    assert all(each.loss == 0 for each in LINKS.values())


def test_an_inference_takes_113_bytes_beyond_its_tensor() -> None:
    assert BEYOND_BYTES == 113


def test_half_a_round_trip_and_the_bytes_at_the_rate() -> None:
    assert link(0).up_ms(1000) == 26.0
    assert link(0).down_ms == pytest.approx(25 + 0.021)
    assert [segments_of(size) for size in (1, 1460, 1461, 14_600)] == [1, 1, 2, 10]


def test_nothing_lost_delays_nothing() -> None:
    assert link(0).resend_mean_ms(1000) == link(0).resend_ms(1000, 0.95) == 0


def test_loss_by_hand() -> None:
    lossy = link(0.1)
    assert lossy.timeout_ms == 250
    # one segment: p + 2 p^2 + 4 p^3 + ... = p / (1 - 2 p)
    assert lossy.resend_mean_ms(1) == pytest.approx(250 * 0.1 / 0.8)
    assert lossy.resend_ms(1, 0.5) == 0
    assert lossy.resend_ms(1, 0.89) == 0
    assert lossy.resend_ms(1, 0.95) == 250
    assert lossy.resend_ms(1, 0.995) == 3 * 250
    # seven segments all arrive at once with 0.9^7 = 0.478, after one repetition with 0.99^7 = 0.932
    assert (lossy.resend_ms(7, 0.47), lossy.resend_ms(7, 0.5), lossy.resend_ms(7, 0.95)) == (0, 250, 3 * 250)


@pytest.mark.parametrize(("loss", "segments"), [(0.02, 2), (0.1, 30), (0.2, 5)])
def test_the_formulas_agree_with_losses_that_are_drawn(loss: float, segments: int) -> None:
    draw, lossy = random.Random(1), link(loss)

    def rounds() -> int:
        done, under_way = 0, sum(draw.random() < loss for _ in range(segments))
        while under_way:
            done, under_way = done + 1, sum(draw.random() < loss for _ in range(under_way))
        return done

    delays = sorted(lossy.timeout_ms * (2.0 ** rounds() - 1) for _ in range(10_000))
    assert sum(delays) / len(delays) == pytest.approx(lossy.resend_mean_ms(segments), rel=0.08)
    for quantile in (0.5, 0.95):
        assert delays[int(quantile * len(delays))] == lossy.resend_ms(segments, quantile)


@pytest.mark.parametrize(
    "wrong", [{"rtt_ms": -1}, {"up_mbit_s": 0}, {"down_mbit_s": float("inf")}, {"loss": 0.6}, {"loss": -0.1}]
)
def test_a_link_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Link.model_validate({"rtt_ms": 1, "up_mbit_s": 1, "down_mbit_s": 1, **wrong})
