"""What a bit costs while learning, and that the real codec then writes fewer of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cloud_worker.build.codecs import fit_bottleneck
from cloud_worker.build.codecs.rates import logits_of
from cloud_worker.build.learn.learn import learn
from cloud_worker.build.learn.rate import bits, rounded
from cloud_worker.build.learn.settings import LearnSettings
from schemas.codecs import open_codec
from schemas.tensor import TensorSpec
from tests.cloud_worker.build.learn_models import blobs, trained


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def test_what_is_rounded_passes_its_gradient() -> None:
    z = torch.tensor([-1.6, -0.4, 0.4, 70.7], requires_grad=True)
    found = rounded(z)
    (found * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()  # type: ignore[no-untyped-call]
    assert found.tolist() == [-2, 0, 0, 71]
    assert z.grad is not None
    assert z.grad.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("shape", [(3,), (3, 8), (3, 4, 6)])
def test_independent_values_cost_what_a_gaussian_of_their_variance_does(shape: tuple[int, ...]) -> None:
    z = 2 * noise(4000, *shape)
    expected = math.prod(shape) * math.log2(1 + 12 * 4) / 2
    assert float(bits(z)) == pytest.approx(expected, rel=0.01)


def test_the_estimate_is_near_what_the_codec_writes_for_a_gaussian() -> None:
    z = noise(1000, 8, 10, 10)
    tables = fit_bottleneck.fit(z.numpy(), np.ones((1, 8), np.float32))
    codec = open_codec("bottleneck", TensorSpec(dtype="float32", shape=(8, 10, 10)), {"rate": 0}, tables)
    written = 8 * np.mean([len(codec.encode(each)) for each in z[:100].numpy()])
    assert 0.85 * written < float(bits(z)) < written


def test_what_is_smooth_over_space_or_alike_in_channels_costs_less() -> None:
    free = noise(500, 4, 6, 6)
    smooth = free.mean(dim=(2, 3), keepdim=True).expand_as(free)
    smooth = smooth / smooth.std()
    alike = free[:, :1].expand_as(free)
    assert float(bits(smooth)) < float(bits(free)) / 4
    assert float(bits(alike)) < float(bits(free)) / 2


def test_a_channel_that_is_smaller_costs_less_and_one_that_is_nought_costs_nothing() -> None:
    z = noise(500, 2, 4, 4)
    scale = torch.tensor([1.0, 1.0], requires_grad=True)
    bits(z * scale[:, None, None]).backward()  # type: ignore[no-untyped-call]
    assert scale.grad is not None
    assert (scale.grad > 0).all()
    off = z * torch.tensor([1.0, 0.0])[:, None, None]
    assert float(bits(off)) == pytest.approx(float(bits(z[:, :1])), rel=1e-4)


def test_few_samples_of_many_channels_have_a_finite_cost() -> None:
    z = noise(2, 40, 3).requires_grad_()
    bits(z).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_a_dearer_bit_gives_fewer_bytes_through_the_codec(tmp_path: Path) -> None:
    known, train = trained(), blobs(256, 2)
    sizes = []
    for weight in (0.0, 1e-2, 1e-1):
        settings = LearnSettings(channels=4, epochs=6, batch=32, rate_weight=weight)
        folder = tmp_path / str(weight)
        learnt = learn(
            known.graph, known.cut, known.model, train=train, validation=blobs(64, 3), folder=folder, settings=settings
        )
        z = logits_of(learnt.head, train.inputs).numpy()
        tables = fit_bottleneck.fit(z, np.ones((1, 4), np.float32))
        codec = open_codec("bottleneck", learnt.spec, {"rate": 0}, tables)
        sizes.append(float(np.mean([len(codec.encode(each)) for each in z])))
        assert learnt.figures.tail_agrees > 0.8
    assert sizes[1] < 0.8 * sizes[0]
    assert sizes[2] < 0.7 * sizes[1]
