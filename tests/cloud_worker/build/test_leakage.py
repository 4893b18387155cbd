from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cloud_worker.build import leakage
from cloud_worker.build.leakage import Leakage, distance_correlation, fit_inverter, measure
from schemas.errors import ConfigError


class Scene(NamedTuple):
    """Smooth images (N, 1, 14, 14), 300 to train with and 150 unseen."""

    train: Tensor
    unseen: Tensor


@pytest.fixture(scope="module")
def scene() -> Scene:
    coarse = torch.rand(450, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Scene(*functional.interpolate(coarse, (14, 14), mode="bilinear").split((300, 150)))


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_payload_that_is_the_image_leaks_everything(scene: Scene) -> None:
    found = measure(scene.train, scene.train, scene.unseen, scene.unseen)
    assert found.ssim > 0.999
    assert found.psnr_db > 60
    assert found.distance_correlation == pytest.approx(1.0)
    assert (found.samples, found.held_out) == (300, 150)


def test_a_payload_that_is_the_image_shuffled_and_scaled_leaks_as_much(scene: Scene) -> None:
    order = torch.randperm(196, generator=torch.Generator().manual_seed(1))
    train, unseen = ((3 * each.flatten(1)[:, order] - 7).reshape(-1, 4, 7, 7) for each in scene)
    found = measure(scene.train, train, scene.unseen, unseen)
    assert found.ssim > 0.999
    assert found.distance_correlation == pytest.approx(1.0)


def test_noise_leaks_nothing(scene: Scene) -> None:
    found = measure(scene.train, noise(2, 300, 8, 5, 5), scene.unseen, noise(3, 150, 8, 5, 5))
    assert found.ssim == pytest.approx(found.ssim_blind, abs=0.02)
    assert found.psnr_db == pytest.approx(found.psnr_db_blind, abs=0.1)
    assert found.distance_correlation == pytest.approx(found.distance_correlation_blind, abs=0.03)
    assert found.distance_correlation_blind > 0.2


def test_a_constant_payload_leaks_nothing(scene: Scene) -> None:
    found = measure(scene.train, torch.ones(300, 5), scene.unseen, torch.ones(150, 5))
    assert (found.ssim, found.psnr_db) == pytest.approx((found.ssim_blind, found.psnr_db_blind))
    assert found.distance_correlation == 0


def test_coarser_steps_never_leak_more(scene: Scene) -> None:
    def leaked(step: float) -> Leakage:
        train, unseen = ((each / step).round() * step for each in scene)
        return measure(scene.train, train, scene.unseen, unseen)

    found = [leaked(step) for step in (0.01, 0.1, 0.3, 0.7, 1.5)]
    for name in ("psnr_db", "ssim", "distance_correlation"):
        values = [getattr(each, name) for each in found]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[-1]


def test_fewer_values_leak_less_and_the_rest_is_filled_in(scene: Scene) -> None:
    pooled = [functional.avg_pool2d(each, 7) for each in scene]
    found = measure(scene.train, pooled[0], scene.unseen, pooled[1])
    assert found.ssim_blind + 0.1 < found.ssim < 0.95


def test_more_payload_values_than_samples_are_solved_without_projection(scene: Scene) -> None:
    wide = [each.flatten(1) @ noise(4, 196, 900) for each in scene]
    assert measure(scene.train, wide[0], scene.unseen, wide[1]).ssim > 0.99


def test_many_of_both_are_projected(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "LARGEST", 64)
    found = measure(scene.train, scene.train, scene.unseen, scene.unseen)
    assert found.ssim > 0.95
    monkeypatch.setattr(leakage, "LARGEST", 4)
    assert measure(scene.train, scene.train, scene.unseen, scene.unseen).ssim < found.ssim


def test_projection_leaves_the_samples_their_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = noise(6, 20, 5000)
    monkeypatch.setattr(leakage, "LARGEST", 1000)
    narrow, _ = leakage._projected(wide, wide, torch.Generator().manual_seed(0))
    assert narrow.shape == (20, 1000)
    torch.testing.assert_close(torch.pdist(narrow), torch.pdist(wide.double()), rtol=0.15, atol=0)


def test_what_payloads_show_as_they_are_counts_where_it_is_better(scene: Scene) -> None:
    few = scene.train[:4], noise(2, 4, 5), scene.unseen, noise(3, 150, 5)
    assert measure(*few).ssim < 0.5
    whole = measure(*few, shown=scene.unseen)
    assert (whole.ssim, whole.psnr_db, whole.r2) == (1, 100, 1)
    assert whole.distance_correlation == measure(*few).distance_correlation
    dark = measure(scene.train, scene.train, scene.unseen, scene.unseen, shown=torch.zeros_like(scene.unseen))
    assert dark.ssim > 0.999


@pytest.mark.parametrize("side", [1, 10])
def test_images_too_small_for_its_window_have_no_ssim(side: int) -> None:
    images = torch.rand(60, 1, side, side, generator=torch.Generator().manual_seed(1))
    found = measure(images[:40], images[:40], images[40:], images[40:])
    assert (found.ssim, found.ssim_blind) == (None, None)
    assert found.psnr_db is not None
    assert found.r2 is not None


class TestSignals:
    def test_they_have_a_share_of_their_variance_and_no_likeness_of_pictures(self) -> None:
        signals = 50 * noise(0, 90, 2, 16) - 7
        found = measure(signals[:60], signals[:60], signals[60:], signals[60:], images=False)
        assert found.r2 > 0.99
        assert found.distance_correlation == pytest.approx(1.0)
        assert {found.ssim, found.psnr_db, found.ssim_blind, found.psnr_db_blind} == {None}

    def test_of_noise_nothing_is_got_back(self) -> None:
        signals = noise(0, 90, 16)
        found = measure(signals[:60], noise(1, 60, 4), signals[60:], noise(2, 30, 4), images=False)
        assert found.r2 < 0.05

    def test_where_nothing_varies_no_share_of_it_is_defined(self) -> None:
        same = torch.ones(8, 3)
        assert measure(same, same, same, same, images=False).r2 is None

    def test_they_may_have_any_shape_but_must_fit(self) -> None:
        with pytest.raises(ConfigError, match=r"samples \(N, ...\) with payloads"):
            measure(noise(0, 9, 3), noise(1, 9, 2), noise(0, 5, 4), noise(1, 5, 2), images=False)


def test_it_is_repeatable(scene: Scene) -> None:
    blurred = [functional.avg_pool2d(each, 2) + 0.1 * noise(9, len(each), 1, 7, 7) for each in scene]
    first, second = (measure(scene.train, blurred[0], scene.unseen, blurred[1], seed=5) for _ in range(2))
    assert first == second


def test_the_inverter_is_ridge_regression() -> None:
    payloads, images = noise(5, 60, 7).double(), torch.rand(60, 4, generator=torch.Generator().manual_seed(6)).double()
    found = fit_inverter(payloads, images, torch.Generator().manual_seed(7))
    centred = payloads - payloads.mean(dim=0)
    weight = found.ridge * torch.linalg.svdvals(centred).square().mean()
    wanted = torch.linalg.solve(
        centred.T @ centred + weight * torch.eye(7).double(), centred.T @ (images - images.mean(dim=0))
    )
    torch.testing.assert_close(found.into @ found.out, wanted, rtol=1e-6, atol=1e-9)


class TestDistanceCorrelation:
    def test_by_hand(self) -> None:
        one = torch.tensor([[0.0], [1.0], [3.0]])
        other = torch.tensor([[0.0], [0.0], [1.0]])

        def centred(rows: list[list[float]]) -> list[list[float]]:
            means = [sum(row) / 3 for row in rows]
            whole = sum(means) / 3
            return [[rows[i][j] - means[i] - means[j] + whole for j in range(3)] for i in range(3)]

        a = centred([[0, 1, 3], [1, 0, 2], [3, 2, 0]])
        b = centred([[0, 0, 1], [0, 0, 1], [1, 1, 0]])
        cells = [(i, j) for i in range(3) for j in range(3)]
        ab, aa, bb = (sum(x[i][j] * y[i][j] for i, j in cells) for x, y in ((a, b), (a, a), (b, b)))
        assert distance_correlation(one, other) == pytest.approx((ab / (aa * bb) ** 0.5) ** 0.5)

    def test_what_is_moved_turned_or_scaled_is_the_same(self) -> None:
        one = noise(0, 40, 3)
        turn = torch.linalg.qr(noise(1, 3, 3)).Q
        assert distance_correlation(one, 5 * one @ turn - 2) == pytest.approx(1.0, abs=1e-5)

    def test_it_sees_what_correlation_does_not(self) -> None:
        one = torch.linspace(-1, 1, 101)[:, None]
        assert abs(float(torch.corrcoef(torch.cat([one, one**2], dim=1).T)[0, 1])) < 1e-5
        assert distance_correlation(one, one**2) > 0.4

    def test_independent_samples_have_little_when_they_are_many(self) -> None:
        few, many = (distance_correlation(noise(2, n, 1), noise(3, n, 1)) for n in (20, 1500))
        assert many < few < 0.6
        assert many < 0.08

    def test_what_does_not_vary_has_none(self) -> None:
        assert distance_correlation(torch.ones(5, 2), noise(4, 5, 2)) == 0

    @pytest.mark.parametrize(("count", "others"), [(1, 1), (3, 4), (0, 0)])
    def test_lengths_that_do_not_fit_are_refused(self, count: int, others: int) -> None:
        with pytest.raises(ConfigError, match="equally many samples"):
            distance_correlation(torch.zeros(count, 2), torch.zeros(others, 2))


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (((20, 1, 12, 12), (19, 3), (5, 1, 12, 12), (5, 3)), "alike but for N"),
        (((20, 1, 12, 12), (20, 3), (5, 1, 12, 12), (4, 3)), "alike but for N"),
        (((20, 1, 12, 12), (20, 3), (5, 1, 12, 13), (5, 3)), "alike but for N"),
        (((20, 1, 12, 12), (20, 3), (5, 1, 12, 12), (5, 4)), "alike but for N"),
        (((20, 144), (20, 3), (5, 144), (5, 3)), "alike but for N"),
        (((20, 1, 12, 12), (20, 0), (5, 1, 12, 12), (5, 0)), "alike but for N"),
        (((20, 1, 12, 12), (20, 3), (1, 1, 12, 12), (1, 3)), "alike but for N"),
        (((3, 1, 12, 12), (3, 3), (5, 1, 12, 12), (5, 3)), "3 training samples; give at least 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        measure(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize(
    ("place", "value", "says"), [(0, 1.5, "divide pixels by 255"), (3, float("nan"), "not finite")]
)
def test_values_that_do_not_fit_are_refused(place: int, value: float, says: str) -> None:
    given = [torch.zeros(shape) for shape in ((20, 1, 12, 12), (20, 3), (5, 1, 12, 12), (5, 3))]
    given[place].view(-1)[0] = value
    with pytest.raises(ConfigError, match=says):
        measure(*given)


def test_under_a_hundred_samples_bound_nothing() -> None:
    assert Leakage(samples=99).few
    assert not Leakage(samples=100).few


def test_the_record_calls_itself_a_lower_bound() -> None:
    text = Leakage.__doc__ or ""
    assert "lower bound" in text
    assert "private" not in text
