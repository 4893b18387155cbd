from __future__ import annotations

import math
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from cloud_worker.build.likeness import MOST_DB, psnr_db, ssim
from schemas.errors import ConfigError


def images(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_equal_images_are_as_alike_as_can_be() -> None:
    some = images(0, 3, 3, 16, 20)
    assert ssim(some, some) == pytest.approx(1.0, abs=1e-12)
    assert psnr_db(some, some) == MOST_DB


def test_flat_images_differ_by_their_light_alone() -> None:
    """With no structure SSIM is (2ab + C1) / (a^2 + b^2 + C1)."""
    dark, light = torch.full((1, 1, 12, 12), 0.2), torch.full((1, 1, 12, 12), 0.6)
    assert ssim(dark, light) == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4), rel=1e-6)
    assert psnr_db(dark, light) == pytest.approx(-20 * math.log10(0.4), rel=1e-6)


def test_one_window_by_hand() -> None:
    one, other = images(1, 1, 1, 11, 11).double(), images(2, 1, 1, 11, 11).double()
    weights = torch.tensor(
        [[math.exp(-((x - 5) ** 2 + (y - 5) ** 2) / (2 * 1.5**2)) for x in range(11)] for y in range(11)],
        dtype=torch.float64,
    )
    weights /= weights.sum()
    mean, other_mean = (weights * one).sum(), (weights * other).sum()
    spread, other_spread = (weights * (one - mean) ** 2).sum(), (weights * (other - other_mean) ** 2).sum()
    common = (weights * (one - mean) * (other - other_mean)).sum()
    light = (2 * mean * other_mean + 1e-4) / (mean**2 + other_mean**2 + 1e-4)
    assert ssim(one, other) == pytest.approx(
        float(light * (2 * common + 9e-4) / (spread + other_spread + 9e-4)), rel=1e-9
    )


def test_a_negative_is_less_alike_than_noise() -> None:
    some = images(3, 4, 1, 20, 20)
    assert ssim(some, 1 - some) < ssim(some, images(4, 4, 1, 20, 20)) < ssim(some, 0.8 * some + 0.1)


@pytest.mark.skipif(find_spec("skimage") is None, reason="the extra `bench` is not installed")
@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 17, 40)])
def test_scikit_image_says_the_same(shape: tuple[int, ...]) -> None:
    from skimage import metrics  # noqa: PLC0415

    one = images(5, *shape).double()
    other = (one + 0.2 * images(6, *shape)).clamp(0, 1)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    theirs = [
        metrics.structural_similarity(a, b, channel_axis=0, **options)
        for a, b in zip(one.numpy(), other.numpy(), strict=True)
    ]
    assert ssim(one, other) == pytest.approx(sum(theirs) / len(theirs), rel=1e-9)
    assert psnr_db(one, other) == pytest.approx(
        metrics.peak_signal_noise_ratio(one.numpy(), other.numpy(), data_range=1), rel=1e-9
    )


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ((2, 1, 12, 12), (2, 1, 12, 13), "alike"),
        ((12, 12), (12, 12), "alike"),
        ((0, 1, 12, 12), (0, 1, 12, 12), "alike"),
        ((1, 1, 10, 12), (1, 1, 10, 12), "at least 11x11"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(one: tuple[int, ...], other: tuple[int, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ssim(torch.zeros(one), torch.zeros(other))
