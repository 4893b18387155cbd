"""A profile that was measured: complete, accepted by the planner, true to the codecs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cloud_worker.build.codecs.affine import affine_config
from cloud_worker.build.cut.cuts import split
from cloud_worker.build.measure.levels import EVALUATIONS, levels_for
from cloud_worker.build.measure.net import run
from cloud_worker.build.measure.profile_file import SplitProfile, parse_profile
from cloud_worker.build.measure.profiling import Data, fit_tables, measure, worth_measuring
from cloud_worker.build.plan.network import LINKS
from cloud_worker.build.plan.ranking import Constraints, plan
from schemas.codecs import open_codec
from schemas.errors import ConfigError
from tests.cloud_worker.build.profile_models import (
    QUICK,
    image_data,
    image_graph,
    image_profile,
    signal_data,
    signal_graph,
    signal_profile,
)


@pytest.mark.parametrize("made", [image_profile, signal_profile])
def test_a_profile_is_complete_and_can_be_planned(made: object) -> None:
    profile = made()  # type: ignore[operator]
    assert isinstance(profile, SplitProfile)
    assert parse_profile(profile.model_dump_json().encode()) == profile
    assert profile.has_kl
    assert len(profile.cuts) > 1
    assert all(cut.edge_ms.p50 > 0 and cut.cloud_ms.p50 > 0 for cut in profile.cuts)
    points = profile.points
    assert all(point.encode_ms > 0 and point.decode_ms > 0 for point in points)
    assert profile.edge_only.quality.kl_nats == pytest.approx(0, abs=1e-9)
    assert len(plan(profile, LINKS["4G"]).ranked) == len(points) + 1


def test_finer_levels_lose_less_and_take_more() -> None:
    found = 0
    for cut in image_profile().cuts:
        points = [point for point in cut.points if point.codec == "transform"]
        found += len(points)
        levels = [point.config["level"] for point in points]
        assert levels == sorted(levels)
        losses = [point.quality.kl_nats for point in points]
        sizes = [point.bytes_mean for point in points]
        assert losses == sorted(losses)
        assert sizes == sorted(sizes, reverse=True)
    assert found >= 3


def test_bytes_are_those_of_the_codecs_payloads() -> None:
    graph, every = image_graph()
    data = image_data()
    measured = next(cut for cut in image_profile().cuts if cut.points[0].codec == "transform")
    cut = next(each for each in every if each.index == measured.index)
    head, tail = split(graph, cut)
    tables = fit_tables(tail, run(head, data.calibration), QUICK.seed)
    for point in measured.points:
        assert cut.spec is not None
        codec = open_codec("transform", cut.spec, point.config, tables)
        sizes = [len(codec.encode(each)) for each in run(head, data.held_out)]
        assert point.bytes_mean == pytest.approx(np.mean(sizes))
        assert point.bytes_p95 == pytest.approx(np.percentile(sizes, 95))


def test_what_is_no_map_goes_through_affine_and_minmax() -> None:
    specs = {cut.index: cut.spec for cut in signal_graph()[1]}
    for cut in signal_profile().cuts:
        spec = specs[cut.index]
        assert spec is not None
        assert [(point.codec, point.config.get("bits")) for point in cut.points] == [
            ("affine", 8),
            ("affine", 6),
            ("affine", 4),
            ("minmax_u8", None),
        ]
        assert [point.bytes_mean for point in cut.points] == [
            *((spec.elements * bits + 7) // 8 for bits in (8, 6, 4)),
            spec.elements + 8,
        ]
        assert cut.points[0].quality.kl_nats < cut.points[2].quality.kl_nats  # type: ignore[operator]


def test_the_input_travels_as_an_image_where_it_is_one_and_by_zstd_where_not() -> None:
    assert image_profile().preprocess_ms > 0
    assert signal_profile().preprocess_ms == 0
    images, signals = image_profile().cloud_only, signal_profile().cloud_only
    assert [point.config for point in images.points] == [
        {"format": "webp"},
        {"format": "webp", "quality": 60},
        {"format": "webp", "quality": 10},
    ]
    assert [point.config for point in signals.points] == [{"format": "zstd"}]
    for only in (images, signals):
        assert only.points[0].quality.kl_nats == pytest.approx(0, abs=1e-9)
    assert images.points[2].bytes_mean < images.points[1].bytes_mean


def test_accuracy_is_measured_with_labels_alone() -> None:
    assert image_profile().has_accuracy
    assert not any(quality.accuracy for quality in signal_profile().qualities)


def test_everything_but_the_clock_is_repeatable_and_every_part_is_said() -> None:
    graph, every = image_graph()
    said: list[str] = []
    chosen = worth_measuring(every)[-1:]
    again = measure(graph, chosen, image_data(), QUICK, said.append)
    first = next(cut for cut in image_profile().cuts if cut.index == chosen[0].index)
    timeless = {"encode_ms", "decode_ms"}
    assert [point.model_dump(exclude=timeless) for point in again.cuts[0].points] == [
        point.model_dump(exclude=timeless) for point in first.points
    ]
    assert len(said) == 2
    assert chosen[0].name in said[1]


def test_every_point_of_images_has_an_ssim_and_the_input_the_highest() -> None:
    profile = image_profile()
    leaked = [point.leakage for point in profile.points]
    assert profile.has_ssim
    assert {(each.samples, each.held_out) for each in leaked if each} == {(40, 24)}
    assert all(each is not None and each.ssim is not None for each in leaked)
    lossless, *others = (each.ssim for each in leaked if each)
    assert lossless == 1
    assert all(-1 <= each < 1 for each in others)
    deepest = profile.cuts[-1].points[-1].leakage
    assert deepest is not None
    assert deepest.distance_correlation < leaked[0].distance_correlation  # type: ignore[union-attr,operator]


def test_signals_have_a_share_of_their_variance_and_no_ssim() -> None:
    profile = signal_profile()
    assert not profile.has_ssim
    leaked = [point.leakage for point in profile.points]
    assert all(each is not None and each.ssim is None and each.r2 is not None for each in leaked)
    assert leaked[0].r2 == 1  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="its samples are no images of 11x11 pixels or more"):
        plan(profile, LINKS["4G"], constraints=Constraints(max_ssim=0.5))


@pytest.mark.parametrize("known", [2, 40])
def test_leakage_is_left_out_when_asked_or_when_there_are_too_few_samples(known: int) -> None:
    graph, every = signal_graph()
    data = signal_data()
    few = Data(data.calibration[:known], data.held_out)
    settings = replace(QUICK, leakage=known < 4)
    profile = measure(graph, worth_measuring(every, 1), few, settings)
    assert {point.leakage for point in profile.points} == {None}
    with pytest.raises(ConfigError, match="its leakage was not measured; measure it again"):
        plan(profile, LINKS["4G"], constraints=Constraints(max_ssim=0.5))


def test_samples_that_do_not_fit_are_refused() -> None:
    graph, every = signal_graph()
    wrong = np.zeros((4, 3, 64), np.float32)
    with pytest.raises(ConfigError, match="cannot take samples"):
        measure(graph, worth_measuring(every), Data(wrong, wrong), QUICK)
    with pytest.raises(ConfigError, match="float64"):
        Data(wrong.astype(np.float64), wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="differ in shape"):
        Data(wrong, wrong[:, :2])
    with pytest.raises(ConfigError, match="labels"):
        Data(wrong, wrong, np.zeros(3, np.int64))


def test_torch_has_its_threads_back() -> None:
    before = torch.get_num_threads()
    signal_profile()
    assert torch.get_num_threads() == before


def test_ranges_are_of_channels_where_enough_is_known_of_each() -> None:
    values = np.random.default_rng(0).normal(0, 1, (32, 3, 10)).astype(np.float32)
    assert len(affine_config(values, 4)["scale"]) == 3
    assert len(affine_config(values[:6], 4)["scale"]) == 1


@pytest.mark.parametrize("power", [0.4, 0.5, 0.8])
@pytest.mark.parametrize("factor", [1e-4, 0.05, 20.0])
def test_levels_are_found_with_few_evaluations(power: float, factor: float) -> None:
    asked: list[int] = []

    def kl_at(level: int) -> float:
        asked.append(level)
        return factor * float(2 ** (power * level))

    targets = (0.02, 0.05, 0.1)
    levels = levels_for(targets, kl_at)
    assert len(asked) == len(set(asked)) <= 1 + EVALUATIONS * len(targets)
    assert list(levels) == sorted(levels)
    for target in targets:
        best = min(range(-12, 25), key=lambda level: abs(np.log(kl_at(level) / target)))
        assert min(abs(best - level) for level in levels) <= 1


def test_a_level_at_which_nothing_is_left_is_not_taken() -> None:
    def kl_at(level: int) -> float:
        if level > 2:
            msg = "nothing is left"
            raise ConfigError(msg)
        return 1e-3 * float(2 ** (level / 2))

    assert max(levels_for((0.02, 0.1), kl_at)) <= 2
