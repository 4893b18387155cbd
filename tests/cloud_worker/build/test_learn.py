"""A pair learnt from an unsplit model: it answers alike, and its folder holds what it needs and no other's."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cloud_worker.build.export.freeze import weights_digest
from cloud_worker.build.learn.fit_files import FITTED, LAST, check_unseen, read, save
from cloud_worker.build.learn.learn import learn
from cloud_worker.build.learn.settings import LearnData, LearnSettings, Learnt
from schemas.errors import ConfigError, SampleError
from tests.cloud_worker.build.learn_models import Known, blobs, known, signal_net, token_net, trained, vector_net

QUICK = LearnSettings(channels=4, epochs=1, batch=16)
FEW = 32


def fit(
    folder: Path, settings: LearnSettings = QUICK, of: Known | None = None, data: LearnData | None = None
) -> Learnt:
    model, graph, cut = of or trained()
    train = data or blobs(FEW, 2)
    return learn(graph, cut, model, train=train, validation=train, folder=folder, settings=settings)


def digest(learnt: Learnt) -> str:
    return weights_digest(head=learnt.head, tail=learnt.tail)


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file grows beyond that many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_without_labels_the_pair_comes_to_answer_as_the_unsplit_model(tmp_path: Path) -> None:
    model, graph, cut = trained()
    before = weights_digest(full=model)
    said: list[str] = []
    learnt = learn(
        graph,
        cut,
        model,
        train=LearnData(blobs(384, 2).inputs),
        validation=blobs(128, 3),
        folder=tmp_path / "made" / "here",
        settings=LearnSettings(channels=4, epochs=8, batch=32),
        say=said.append,
    )
    assert learnt.figures.tail_agrees > 0.9
    assert learnt.figures.exit_agrees > 0.6
    assert learnt.figures.tail_right is not None
    assert learnt.figures.tail_right > 0.85
    assert not learnt.head.training
    assert weights_digest(full=model) == before
    assert len(said) == 8
    assert said[7] == f"epoch 8/8: {said[7].partition(': ')[2].partition(',')[0]}, {learnt.figures}"


@pytest.mark.parametrize(
    ("make", "name", "shape"), [(signal_net, "0", (2, 32)), (vector_net, "0", (6,)), (token_net, "embed", (10, 6))]
)
def test_signals_vectors_and_tokens_are_learnt_too(
    make: Callable[[], nn.Module], name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    found = known(make, name, *shape)
    data = LearnData(torch.randn(FEW, *shape, generator=torch.Generator().manual_seed(0)))
    learnt = fit(tmp_path, replace(QUICK, epochs=2, tokens=make is token_net), found, data)
    assert learnt.figures.full_right is None
    assert 0 <= learnt.figures.tail_agrees <= 1


def test_targets_count(tmp_path: Path) -> None:
    data = blobs(FEW, 2)
    assert digest(fit(tmp_path / "with")) != digest(fit(tmp_path / "without", data=LearnData(data.inputs)))


def test_in_bfloat16_it_learns_as_well(tmp_path: Path) -> None:
    settings = LearnSettings(channels=4, epochs=6, batch=32, bfloat16=True)
    assert fit(tmp_path, settings, data=blobs(256, 2)).figures.tail_agrees > 0.8


def test_a_finished_fit_is_taken_and_not_learnt_again(tmp_path: Path) -> None:
    first = fit(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [FITTED]
    again = fit(tmp_path, replace(QUICK, epochs=1000), data=blobs(FEW, 9))
    assert digest(again) == digest(first)
    assert again.settings == QUICK


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"settings": replace(QUICK, channels=3)}, "channels"),
        ({"of": known(vector_net, "0", 6), "data": LearnData(torch.zeros(4, 6))}, "model, cut, shape of the cut"),
    ],
)
def test_a_fit_of_something_else_is_refused_by_name(other: dict[str, object], told: str, tmp_path: Path) -> None:
    fit(tmp_path)
    with pytest.raises(ConfigError, match=f"{FITTED} is a fit of other {told}; give another folder, or remove it"):
        fit(tmp_path, **other)  # type: ignore[arg-type]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A folder with a fit that was stopped after its first epoch of three."""

    def say(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    model, graph, cut = trained()
    train = blobs(FEW, 2)
    with pytest.raises(KeyboardInterrupt):
        learn(
            graph,
            cut,
            model,
            train=train,
            validation=train,
            folder=tmp_path,
            settings=replace(QUICK, epochs=3),
            say=say,
        )
    return tmp_path


def test_half_a_fit_of_other_settings_or_samples_is_refused(stopped: Path) -> None:
    with pytest.raises(ConfigError, match=f"{LAST} is a fit of other rate_weight, seed; give another folder"):
        fit(stopped, replace(QUICK, epochs=3, rate_weight=1.0, seed=4))
    with pytest.raises(ConfigError, match=f"{LAST} is a fit of other samples; give another folder"):
        fit(stopped, replace(QUICK, epochs=3), data=blobs(FEW, 3))


def test_a_file_that_is_cut_short_or_changed_is_refused(tmp_path: Path) -> None:
    fit(tmp_path)
    path = tmp_path / FITTED
    raw = path.read_bytes()
    for length in (0, 1, 100, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:length])
        with pytest.raises(ConfigError, match="give another folder, or remove it"):
            fit(tmp_path)
    weights = read_back(raw, path)["head"]["neck.0.0.0.weight"].numpy().tobytes()
    path.write_bytes(raw.replace(weights, weights[:-1] + bytes([weights[-1] ^ 1])))
    with pytest.raises(ConfigError, match=r"is damaged|other digest"):
        fit(tmp_path)


def read_back(raw: bytes, path: Path) -> dict[str, dict[str, torch.Tensor]]:
    path.write_bytes(raw)
    return read(path)


@pytest.mark.parametrize("key", ["of", "settings", "weights", "head", "tail"])
def test_a_fit_without_one_of_its_parts_is_refused(key: str, tmp_path: Path) -> None:
    fit(tmp_path)
    content = read(tmp_path / FITTED)
    for wrong in ({name: value for name, value in content.items() if name != key}, {**content, key: 3}):
        save(tmp_path / FITTED, wrong)
        with pytest.raises(ConfigError, match=FITTED):
            fit(tmp_path)


@pytest.mark.parametrize("key", ["model", "average", "optimizer", "rng", "epoch"])
def test_half_a_fit_without_one_of_its_parts_is_refused(key: str, stopped: Path) -> None:
    content = read(stopped / LAST)
    for wrong in (
        {name: value for name, value in content["state"].items() if name != key},
        {**content["state"], key: {}},
    ):
        save(stopped / LAST, {**content, "state": wrong})
        with pytest.raises(ConfigError, match=f"{LAST} is damaged or no file of a fit"):
            fit(stopped, replace(QUICK, epochs=3))


def test_a_file_of_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"of": Path("/")}, tmp_path / FITTED)
    with pytest.raises(ConfigError, match="is damaged or no file of a fit"):
        fit(tmp_path)


def test_a_full_disk_is_told_with_the_path_and_leaves_the_last_epoch_whole(stopped: Path) -> None:
    before = (stopped / LAST).read_bytes()
    with full_disk(1000), pytest.raises(OSError, match=LAST) as caught:
        fit(stopped, replace(QUICK, epochs=3))
    assert caught.value.filename == str(stopped / LAST)
    assert (stopped / LAST).read_bytes() == before
    assert [path.name for path in stopped.iterdir()] == [LAST]
    with full_disk(1000), pytest.raises(OSError, match=LAST):
        fit(stopped / "deep" / "new")
    assert [path.name for path in stopped.iterdir()] == [LAST]
    assert fit(stopped, replace(QUICK, epochs=3)).settings.epochs == 3


def test_a_fit_begins_from_an_earlier_one(tmp_path: Path) -> None:
    fit(tmp_path / "first", replace(QUICK, epochs=3))
    still = replace(QUICK, peak_lr=1e-9, start=tmp_path / "first" / FITTED)
    found = fit(tmp_path / "second", still)
    wanted = read(tmp_path / "first" / FITTED)["head"]
    for name, weight in found.head.named_parameters():
        torch.testing.assert_close(weight.detach(), wanted[name])
    with pytest.raises(ConfigError, match="another structure"):
        fit(tmp_path / "third", replace(still, channels=3))
    with pytest.raises(ConfigError, match=r"nowhere\.pt cannot be read"):
        fit(tmp_path / "third", replace(still, start=tmp_path / "nowhere.pt"))


def test_a_fit_knows_the_samples_that_it_has_seen(tmp_path: Path) -> None:
    fit(tmp_path / "first", data=blobs(FEW, 2))
    fit(tmp_path / "second", replace(QUICK, start=tmp_path / "first" / FITTED), data=blobs(FEW, 5))
    for seen in (blobs(FEW, 2), blobs(FEW, 5)):
        with pytest.raises(ConfigError, match=f"was learnt from {FEW} of the samples"):
            check_unseen(tmp_path / "second" / FITTED, seen.marks())
    check_unseen(tmp_path / "second" / FITTED, blobs(FEW, 6).marks())


def test_a_rate_that_is_too_high_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the loss is .* begin again with a lower peak_lr"):
        fit(tmp_path, replace(QUICK, epochs=30, peak_lr=1e30))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (LearnData(torch.zeros(1, 1, 16, 16)), "at least 2"),
        (LearnData(torch.zeros(4, 1, 16, 16).double()), "give float32"),
        (LearnData(torch.zeros(4, 1, 16, 16), torch.zeros(3).long()), "an int64 for each of 4"),
        (LearnData(torch.zeros(4, 1, 16, 16), torch.tensor([0, 1, 2, 4])), "give 0 to 3"),
    ],
)
def test_samples_that_are_not_as_they_must_be_are_refused(data: LearnData, told: str, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=told):
        fit(tmp_path, data=data)


@pytest.mark.parametrize(
    "wrong", [{"channels": 0}, {"epochs": 0}, {"batch": 1}, {"peak_lr": 0.0}, {"rate_weight": -1.0}, {"softening": 0.0}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"cannot learn with {next(iter(wrong))}"):
        LearnSettings(**wrong)  # type: ignore[arg-type]


def test_only_images_are_flipped(tmp_path: Path) -> None:
    data = LearnData(torch.zeros(4, 6))
    with pytest.raises(ConfigError, match="cannot be flipped"):
        fit(tmp_path, replace(QUICK, flip=True), known(vector_net, "0", 6), data)
