"""What operating points leak, through real codecs: bounded in size, in the manifest, outside its interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_worker.build import point_leakage as module
from cloud_worker.build.build_report import leaks
from cloud_worker.build.point_leakage import Dealt, point_leakage, points_leakage, with_leakage
from schemas.bundle import parse_manifest
from schemas.bundle_files import open_bundle
from schemas.codecs import Codec, open_codec
from schemas.errors import ConfigError
from schemas.leakage import Leakage
from schemas.tensor import Array, TensorSpec
from tests.bundles import make_bundle, samples, tiny_pair
from tests.cloud_worker.build.profile_models import smooth_images

IMAGES = Dealt(smooth_images(160, 1), smooth_images(60, 2))
FASHION = Path(__file__).parents[3] / "models" / "fashion_mnist" / "bundle"


def input_codec(shape: tuple[int, ...], **config: object) -> Codec:
    return open_codec("input", TensorSpec(dtype="uint8", shape=shape), config)


def found(codec: Codec, tensors: Dealt, samples_: Dealt) -> Leakage:
    leakage = point_leakage(codec, tensors, samples_)
    assert leakage is not None
    return leakage


def test_a_lossless_input_leaks_all_however_few_samples_there_are() -> None:
    for count in (4, 160):
        few = Dealt(IMAGES.calibration[:count], IMAGES.held_out)
        whole = found(input_codec((16, 16, 1), format="png"), few, few)
        assert (whole.ssim, whole.psnr_db, whole.r2, whole.distance_correlation) == (1, 100, 1, 1)
        assert (whole.samples, whole.few) == (count, count < 100)


def test_a_lossy_input_leaks_nearly_all_and_a_coarser_one_less() -> None:
    fine, coarse = (found(input_codec((16, 16, 1), format="webp", quality=q), IMAGES, IMAGES) for q in (90, 1))
    assert fine.ssim is not None
    assert coarse.ssim is not None
    assert 0.9 < fine.ssim < 1
    assert coarse.ssim < fine.ssim
    assert coarse.ssim_blind == fine.ssim_blind


def pooled(images: Array, by: int) -> Array:
    size = 16 // by
    return images.reshape(-1, 1, size, by, size, by).mean(axis=(3, 5), dtype=np.float64).astype(np.float32)


def test_a_smaller_cut_at_fewer_bits_leaks_less() -> None:
    ssims = []
    for by, bits in ((1, 8), (4, 8), (4, 2), (8, 2)):
        cuts = Dealt(*(pooled(part, by) for part in IMAGES))
        config = {"bits": bits, "scale": [255 / (2**bits - 1)], "zero": [0.0]}
        codec = open_codec("affine", TensorSpec(dtype="float32", shape=cuts.held_out.shape[1:]), config)
        ssims.append(found(codec, cuts, IMAGES).ssim)
    assert ssims == sorted(ssims, reverse=True)
    assert ssims[0] > ssims[-1] + 0.1


def test_many_large_samples_are_taken_evenly_and_made_small() -> None:
    large = Dealt(*(np.kron(part, np.ones((1, 4, 4, 3), np.uint8)) for part in IMAGES))
    codec = input_codec((64, 64, 3), format="webp", quality=50)
    leakage = point_leakage(codec, large, large, most=(20, 10))
    assert leakage is not None
    assert (leakage.samples, leakage.held_out) == (20, 10)
    assert module._seen(large.calibration).shape == (160, 3, 32, 32)
    assert module._evenly(np.arange(60), 10).tolist() == list(range(0, 60, 6))


def test_a_signal_is_looked_at_by_some_of_its_values() -> None:
    rng = np.random.default_rng(0)
    signals = Dealt(*(rng.normal(9, 3, (count, 2, 5000)).astype(np.float32) for count in (12, 6)))
    spec = TensorSpec(dtype="float32", shape=(2, 5000))
    assert module._seen(signals.calibration).shape == (12, 4096)
    whole = found(open_codec("input", spec, {"format": "zstd"}), signals, signals)
    rounded = found(open_codec("minmax_u8", spec, {}), signals, signals)
    assert (whole.ssim, whole.r2) == (None, 1)
    assert rounded.r2 is not None
    assert 0.9 < rounded.r2 < 1


@pytest.mark.parametrize(("known", "unseen"), [(3, 60), (160, 1), (0, 0)])
def test_of_too_few_samples_nothing_is_measured(known: int, unseen: int) -> None:
    few = Dealt(IMAGES.calibration[:known], IMAGES.held_out[:unseen])
    assert point_leakage(input_codec((16, 16, 1), format="png"), few, few) is None


def test_tensors_of_other_samples_are_refused() -> None:
    fewer = Dealt(IMAGES.calibration[:50], IMAGES.held_out)
    with pytest.raises(ConfigError, match=r"got \[50, 60\] tensors and \[160, 60\] samples"):
        point_leakage(input_codec((16, 16, 1), format="png"), fewer, IMAGES)


def test_a_bundle_keeps_its_interface_and_reads_back_what_was_measured(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    raw = Dealt(samples(30, 1), samples(12, 2))
    cuts = Dealt(*(np.stack([tiny_pair().cut(each) for each in part]) for part in raw))
    measured = points_leakage(bundle.manifest, bundle.codecs(), cuts, raw)
    sealed = with_leakage(bundle.manifest, measured)
    again = parse_manifest(sealed.model_dump_json().encode())
    assert again == sealed
    assert again.interface == bundle.manifest.interface
    assert {point.id: point.leakage for point in again.points} == measured
    assert [each.r2 is not None and each.samples for each in measured.values() if each] == [30, 30, 30]
    assert again.points[2].ssim == 1
    assert with_leakage(sealed, {}) == bundle.manifest


def test_the_committed_bundle_loads_as_it_is_and_has_nothing_measured() -> None:
    manifest = open_bundle(FASHION).manifest
    assert {point.leakage for point in manifest.points} == {None}
    assert [point.ssim for point in manifest.points] == [None] * 6 + [1, None]


@pytest.mark.parametrize(
    ("leakage", "says"),
    [
        (Leakage(ssim=0.5, ssim_blind=0.25, samples=300), "leaks at least SSIM 0.50 (0.25 without a payload)"),
        (
            Leakage(r2=0.4, distance_correlation=0.6, samples=20),
            "leaks at least 40% of the variance, distance correlation 0.60, which bounds nothing: 20 samples",
        ),
        (Leakage(distance_correlation=0, samples=100), "leaks at least distance correlation 0.00"),
    ],
)
def test_a_report_says_it_in_a_few_words(leakage: Leakage, says: str) -> None:
    assert leaks(leakage) == says
