"""Rounding of the cut at several rates, and the price of its bits."""

from __future__ import annotations

import pytest
import torch

from models.fashion_mnist.nets import Bottleneck
from models.fashion_mnist.pair import Pair
from models.fashion_mnist.rates import Density, Rates


@pytest.fixture
def cut() -> torch.Tensor:
    return torch.randn(8, 8, 7, 7, generator=torch.Generator().manual_seed(1))


def test_rounding_is_off_by_half_a_step_at_most(cut: torch.Tensor) -> None:
    rates = Rates(Bottleneck())
    for rate in range(4):
        q = rates.quantise(cut, rate)
        assert torch.equal(q, q.round())
        gap = (rates.dequantise(q, rate) - cut).abs().amax(dim=(0, 2, 3))
        assert (gap <= 0.5 / rates.gains[rate] + 1e-6).all()


def test_the_tail_is_trained_on_what_it_will_be_given(cut: torch.Tensor) -> None:
    rates = Rates(Bottleneck())
    which = torch.arange(8) % 4
    seen, _, bits = rates.train_step(cut, which)
    for sample in range(8):
        rate = int(which[sample])
        one = cut[sample : sample + 1]
        torch.testing.assert_close(seen[sample : sample + 1], rates.dequantise(rates.quantise(one, rate), rate))
    assert bits.shape == (8,)
    assert (bits > 0).all()


def test_gradients_reach_cut_and_gains_through_the_rounding(cut: torch.Tensor) -> None:
    rates = Rates(Bottleneck())
    cut.requires_grad_()
    rates.train_step(cut, torch.zeros(8, dtype=torch.long)).seen.sum().backward()
    assert cut.grad is not None
    torch.testing.assert_close(cut.grad, torch.ones_like(cut))
    assert rates.log_gains.grad is not None
    assert (rates.log_gains.grad[0] != 0).all()
    assert (rates.log_gains.grad[1:] == 0).all()


@pytest.mark.parametrize("width", [0.5, 1.0, 3.0])
def test_the_chances_of_all_bins_sum_to_one(width: float) -> None:
    density = Density(1)
    steps = torch.arange(-200, 201).float() * width
    z = steps[:, None, None, None].expand(-1, 1, 7, 7)
    chances = torch.exp2(-density.bits(z, torch.full((1, 1, 1, 1), width)))
    torch.testing.assert_close(chances.sum(dim=0), torch.ones(1, 7, 7), atol=1e-3, rtol=0)


def test_a_rate_over_its_target_pays_more_and_one_under_it_less() -> None:
    rates = Rates(Bottleneck(channels=2, rates=2))
    before = rates.log_lambdas.clone()
    rates.steer(torch.tensor([120.0, 40.0]), torch.tensor([0, 1]), torch.tensor([100.0, 80.0]), speed=0.1)
    assert rates.log_lambdas[0] == pytest.approx(before[0] + 0.1 * 0.2)
    assert rates.log_lambdas[1] == pytest.approx(before[1] - 0.1 * 0.5)


def test_a_pair_answers_at_every_rate() -> None:
    pair = Pair(Bottleneck()).eval()
    with torch.inference_mode():
        cut, exit_logits = pair.head(torch.zeros(2, 1, 28, 28))
        assert exit_logits.shape == (2, 10)
        assert all(pair.finish(cut, rate).shape == (2, 10) for rate in range(4))
