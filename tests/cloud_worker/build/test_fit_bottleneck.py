from __future__ import annotations

import numpy as np
import pytest

from cloud_worker.build.codecs.fit_bottleneck import fit
from schemas.codecs.bottleneck import Bottleneck
from schemas.codecs.tables import pack_tables, unpack_tables
from schemas.errors import ConfigError
from schemas.tensor import FloatArray, TensorSpec

SHAPE = (4, 5, 5)
SPEC = TensorSpec(dtype="float32", shape=SHAPE)
STEPS = np.array([[0.5, 0.5, 1.0, 2.0], [2.0, 2.0, 2.0, 2.0]], np.float32)


def latents(count: int, seed: int) -> FloatArray:
    """Each place with a mean and a width of its own."""
    places = np.random.default_rng(7)
    mean, width = places.normal(0, 1.5, SHAPE), np.exp(places.normal(0, 0.7, SHAPE))
    return (mean + width * np.random.default_rng(seed).laplace(size=(count, *SHAPE))).astype(np.float32)


def entropy_bytes(train: FloatArray, unseen: FloatArray, step: FloatArray) -> float:
    """Code length of the unseen levels by what each place alone counted, in bytes: what tables cannot beat by far."""
    levels = [np.clip(np.round(x / step[:, None, None]), -40, 40).astype(int) + 40 for x in (train, unseen)]
    bits = 0.0
    for place in np.ndindex(SHAPE):
        counts = np.bincount(levels[0][(slice(None), *place)], minlength=81) + 0.05
        bits += float(-np.log2(counts / counts.sum())[levels[1][(slice(None), *place)]].sum())
    return bits / 8 / len(unseen)


@pytest.mark.parametrize("rate", [0, 1])
def test_payloads_are_near_what_the_places_own_statistics_allow(rate: int) -> None:
    train, unseen = latents(3000, 1), latents(400, 2)
    codec = Bottleneck(SPEC, {"rate": rate}, unpack_tables(pack_tables(fit(train, STEPS))))
    size = np.mean([len(codec.encode(latent)) for latent in unseen])
    assert size < 1.02 * entropy_bytes(train, unseen, STEPS[rate]) + 3


def test_a_coarser_rate_is_smaller_and_values_are_multiples_of_its_step() -> None:
    tables, latent = fit(latents(500, 1), STEPS), latents(1, 9)[0]
    fine, coarse = (Bottleneck(SPEC, {"rate": rate}, tables) for rate in (0, 1))
    assert len(coarse.encode(latent)) < len(fine.encode(latent))
    assert (np.abs(fine.decode(fine.encode(latent)) - latent) <= STEPS[0][:, None, None] * 0.50001).all()


def test_one_sample_and_one_place_are_enough() -> None:
    tables = fit(np.full((1, 1, 1), 3.0, np.float32), np.ones((1, 1), np.float32))
    codec = Bottleneck(TensorSpec(dtype="float32", shape=(1, 1)), {"rate": 0}, tables)
    for value in (3.0, -7.0, 5000.0):
        assert codec.decode(codec.encode(np.full((1, 1), value, np.float32))).item() == value


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match="latents are not finite"):
        fit(np.concatenate([latents(5, 1), np.full((1, *SHAPE), bad, np.float32)]), STEPS)


def test_more_rates_than_a_file_of_tables_holds_are_refused() -> None:
    noise = np.random.default_rng(3).normal(0, 40, (300, 1, 64, 20)).astype(np.float32)
    with pytest.raises(ConfigError, match=r"12 rates of .* do not fit a file of tables; give fewer rates"):
        fit(noise * np.exp(np.linspace(-4, 0, 1280)).reshape(1, 1, 64, 20).astype(np.float32), np.ones((12, 1), "f4"))


def test_shapes_that_do_not_fit_and_steps_of_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        fit(latents(3, 1), STEPS[:, :3])
    with pytest.raises(ConfigError, match="a step is not positive"):
        fit(latents(3, 1), STEPS * 0)
    with pytest.raises(ConfigError, match="a step is not positive"):
        fit(latents(3, 1), STEPS * np.nan)
