from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cloud_worker.build.codecs.fisher import gradients
from cloud_worker.build.codecs.fit_transform import Choices, fit
from schemas.codecs import Tables
from schemas.codecs.minmax_u8 import MinMaxU8
from schemas.codecs.tables import pack_tables, unpack_tables
from schemas.codecs.transform import FINEST, Transform
from schemas.errors import ConfigError
from schemas.tensor import TensorSpec

SHAPE = (6, 9, 8)
SPEC = TensorSpec(dtype="float32", shape=SHAPE)


class Scene:
    """Smooth images through a small untrained head, and a tail whose answers are far from even."""

    def __init__(self, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        coarse = torch.randn(96, 3, 5, 5, generator=rng)
        images = nn.functional.interpolate(coarse, (18, 16), mode="bilinear")
        head = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, SHAPE[0], 1))
        self.tail = nn.Sequential(nn.Conv2d(SHAPE[0], 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(160, 7))
        with torch.no_grad():
            self.tail[-1].weight *= 12  # type: ignore[operator]
            self.calibration, self.unseen = head(images).split((64, 32))
        self.felt = gradients(self.tail, self.calibration, draws=4)

    def kl(self, arrived: Tensor) -> float:
        """Mean over the unseen tensors, in nats."""
        with torch.no_grad():
            asked, got = (self.tail(x).log_softmax(1) for x in (self.unseen, arrived))
        return float((asked.exp() * (asked - got)).sum(1).mean())

    def sent(self, codec: Transform | MinMaxU8) -> tuple[float, float]:
        """Mean bytes and KL."""
        payloads = [codec.encode(tensor) for tensor in self.unseen.numpy()]
        arrived = torch.from_numpy(np.stack([codec.decode(payload) for payload in payloads]))
        return float(np.mean([len(payload) for payload in payloads])), self.kl(arrived)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


@pytest.fixture(scope="module")
def tables(scene: Scene) -> Tables:
    return fit(scene.calibration, scene.felt)


def test_gradients_are_those_of_the_likelihood_of_drawn_labels(scene: Scene) -> None:
    found = gradients(scene.tail, scene.calibration[:3], draws=5, seed=1)
    assert found.shape == (3, 5, *SHAPE)
    cut = scene.calibration[:3].clone().requires_grad_()
    logs = scene.tail(cut).log_softmax(1)
    each = [torch.autograd.grad(logs[:, label].sum(), cut, retain_graph=True)[0] for label in range(7)]
    for sample in range(3):
        for draw in range(5):
            assert any(torch.allclose(found[sample, draw], by_label[sample], atol=1e-6) for by_label in each)
    assert torch.equal(gradients(scene.tail, scene.calibration[:3], draws=5, seed=1), found)


def test_finer_levels_cost_more_and_lose_less(scene: Scene, tables: Tables) -> None:
    ends = [scene.sent(Transform(SPEC, {"level": level}, tables)) for level in (FINEST, -4, 4, 12)]
    sizes, losses = zip(*ends, strict=True)
    assert list(sizes) == sorted(sizes, reverse=True)
    assert list(losses) == sorted(losses)
    assert losses[0] < 1e-3


def test_it_takes_a_fraction_of_the_baseline_at_the_same_loss(scene: Scene, tables: Tables) -> None:
    size, loss = scene.sent(MinMaxU8(SPEC, {}))
    finest = scene.sent(Transform(SPEC, {"level": FINEST}, tables))
    assert finest[0] < 0.7 * size
    assert finest[1] < 10 * loss + 1e-3


def test_what_the_output_feels_is_kept_before_what_is_merely_large(scene: Scene) -> None:
    """A channel that the tail ignores, though it is by far the largest, costs next to nothing."""
    calibration, felt = scene.calibration.clone(), scene.felt.clone()
    calibration[:, 0] *= 50
    felt[:, :, 0] = 0
    codec = Transform(SPEC, {"level": 0}, fit(calibration, felt))
    loud, quiet = calibration[0].clone(), calibration[0].clone()
    quiet[0] = calibration[:, 0].mean()
    assert len(codec.encode(loud.numpy())) < 1.3 * len(codec.encode(quiet.numpy()))


def test_the_tables_survive_the_file_and_are_the_same_each_time(scene: Scene, tables: Tables) -> None:
    data = pack_tables(tables)
    assert pack_tables(fit(scene.calibration, scene.felt)) == data
    tensor = scene.unseen[0].numpy()
    there = Transform(SPEC, {"level": 0}, unpack_tables(data))
    assert there.encode(tensor) == Transform(SPEC, {"level": 0}, tables).encode(tensor)


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 7), (3, 5, 1), (2, 31, 3)])
def test_any_shape_can_be_fitted_and_comes_back(shape: tuple[int, ...]) -> None:
    rng = torch.Generator().manual_seed(3)
    tensors, felt = torch.randn(12, *shape, generator=rng), torch.randn(12, 2, *shape, generator=rng)
    codec = Transform(TensorSpec(dtype="float32", shape=shape), {"level": FINEST}, fit(tensors, felt))
    for tensor in tensors.numpy():
        assert np.abs(codec.decode(codec.encode(tensor)) - tensor).max() < 0.2


@pytest.mark.parametrize("count", [1, 2])
def test_very_few_samples_still_make_a_codec(scene: Scene, count: int) -> None:
    codec = Transform(SPEC, {"level": -8}, fit(scene.calibration[:count], scene.felt[:count]))
    assert codec.decode(codec.encode(scene.calibration[0].numpy())).shape == SHAPE


def test_channels_that_never_change_still_make_a_codec_and_come_back(scene: Scene) -> None:
    some = scene.calibration.clone()
    some[:, 2:] = 2.5
    codec = Transform(SPEC, {"level": -8}, fit(some, scene.felt))
    arrived = codec.decode(codec.encode(some[0].numpy()))
    assert np.abs(arrived[2:] - 2.5).max() < 0.1


def test_a_cut_that_the_output_does_not_feel_is_refused(scene: Scene) -> None:
    with pytest.raises(ConfigError, match="the output does not depend on this cut; choose another"):
        fit(scene.calibration, torch.zeros_like(scene.felt))


def test_a_floor_leaves_coefficients_out(scene: Scene) -> None:
    kept = [
        Transform(SPEC, {"level": 0}, fit(scene.calibration, scene.felt, Choices(floor_octaves=octaves))).max_payload
        for octaves in (1.0, 6.0)
    ]
    assert kept[0] < kept[1]


def test_shapes_that_do_not_fit_and_what_is_not_finite_are_refused(scene: Scene) -> None:
    for wrong in (scene.felt[1:], scene.felt[:, 0], scene.felt[:, :, 1:]):
        with pytest.raises(ConfigError, match=r"takes \(N, C, H, W\) and gradients"):
            fit(scene.calibration, wrong)
    with pytest.raises(ConfigError, match=r"takes \(N, C, H, W\)"):
        fit(scene.calibration[:0], scene.felt[:0])
    broken = scene.calibration.clone()
    broken[3, 0, 0, 0] = torch.nan
    with pytest.raises(ConfigError, match="are not finite"):
        fit(broken, scene.felt)
