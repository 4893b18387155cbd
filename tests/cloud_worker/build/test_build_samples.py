"""A build's samples: read from a folder, dealt to parts that share nothing, with their classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_worker.build.samples.dealt import PROMISING, class_names, deal, targets_of
from cloud_worker.build.samples.files import MOST, Sample, read_samples
from schemas.errors import ConfigError, SampleError
from schemas.preprocess import Preprocess
from schemas.tensor import Array


def save(folder: Path, **arrays: Array | np.float32) -> Path:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def floats(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def sample(number: int, folder: str = "", among: int = 3) -> Sample:
    return Sample(str(number), folder, np.full((4,), number, np.float32), number, among)


def test_one_array_is_many_samples_and_several_alike_are_one_each(tmp_path: Path) -> None:
    assert [each.name for each in read_samples(save(tmp_path, a=floats(3, 5)), None)] == [
        f"a.npy[{n}]" for n in (0, 1, 2)
    ]
    found = read_samples(save(tmp_path, b=floats(3, 5)), None)
    assert [(each.name, each.array.shape) for each in found] == [("a.npy", (3, 5)), ("b.npy", (3, 5))]
    assert len(read_samples(tmp_path, (5,))) == 6


def test_npz_files_are_read_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", b=floats(2, 5), a=floats(3, 5))
    assert [each.name for each in read_samples(tmp_path, (5,))] == [
        *(f"two.npz#a[{n}]" for n in range(3)),
        *(f"two.npz#b[{n}]" for n in range(2)),
    ]


def test_hidden_folders_hold_no_samples(tmp_path: Path) -> None:
    save(tmp_path, a=floats(3, 5))
    (tmp_path / ".bundle-1" / "deep").mkdir(parents=True)
    save(tmp_path / ".bundle-1" / "deep", b=floats(3, 6))
    assert len(read_samples(tmp_path, None)) == 3


def test_bytes_are_images_with_the_channels_last(tmp_path: Path) -> None:
    save(tmp_path, grey=np.zeros((2, 6, 7), np.uint8))
    assert {each.array.shape for each in read_samples(tmp_path, (1, 6, 7))} == {(6, 7, 1)}


def test_of_too_many_as_many_are_taken_evenly(tmp_path: Path) -> None:
    save(tmp_path, many=np.arange(2 * MOST, dtype=np.float32)[:, None])
    found = read_samples(tmp_path, None)
    assert [float(each.array[0]) for each in found] == [2.0 * n for n in range(MOST)]


@pytest.mark.parametrize(
    ("arrays", "shape", "says"),
    [
        ({}, None, "holds no sample"),
        ({"a": floats(3, 5)}, (6,), r"a.npy holds float32\[3, 5\], the model takes \[6\]"),
        ({"a": np.zeros((3, 5))}, None, r"a.npy holds float64; save it as float32"),
        ({"a": np.full((3, 5), np.nan, np.float32)}, None, "a.npy holds values that are not finite"),
        ({"a": np.zeros((3, 5), np.uint8)}, (5,), "a.npy holds uint8"),
        ({"a": floats(3, 5), "b": floats(3, 6)}, None, r"b.npy\[0\] is float32\[6\], a.npy\[0\] is float32\[5\]"),
        ({"a": np.float32(3)}, None, r"a.npy holds float32\[\]; give float32 samples of one dimension or more"),
        ({"a": floats(60)}, None, r"a.npy holds float32\[\]; give float32 samples of one dimension or more"),
        ({"a": np.array({})}, None, "a.npy is not a whole file of numbers"),
    ],
)
def test_what_is_no_sample_is_named(
    tmp_path: Path, arrays: dict[str, Array], shape: tuple[int, ...] | None, says: str
) -> None:
    with pytest.raises(SampleError, match=says):
        read_samples(save(tmp_path, **arrays), shape)


def test_a_file_cut_off_is_named(tmp_path: Path) -> None:
    save(tmp_path, a=floats(30, 5))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-9])
    with pytest.raises(SampleError, match=r"a.npy is not a whole file of numbers"):
        read_samples(tmp_path, None)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(SampleError, match=r"a.npz"):
        read_samples(tmp_path, None)


def test_parts_share_nothing_and_stay_when_samples_come() -> None:
    few, many = [deal([sample(n) for n in range(count)], Preprocess(kind="identity"), None) for count in (40, 90)]
    assert not set(many.calibration.names) & set(many.held_out.names)
    assert len(many.calibration) + len(many.held_out) == 90
    assert set(few.calibration.names) <= set(many.calibration.names)
    assert set(few.held_out.names) <= set(many.held_out.names)


def test_the_same_content_counts_once_and_lies_in_one_part() -> None:
    found = deal([*(sample(n) for n in range(40)), *(sample(n) for n in range(40))], Preprocess(kind="identity"), None)
    assert (len(found.calibration) + len(found.held_out), found.repeated) == (40, 40)


def values(inputs: Array) -> set[float]:
    """Each `sample` is its number, again and again."""
    return {float(each[0]) for each in inputs}


def test_the_cut_is_chosen_without_the_samples_that_try_it() -> None:
    found = deal([sample(n) for n in range(40)], Preprocess(kind="identity"), range(40))
    data = found.as_data()
    fitted, measured = values(data.calibration), values(data.held_out)
    assert fitted | measured == values(found.calibration.arrays)
    assert not fitted & measured
    assert data.labels is not None
    assert {float(each) for each in data.labels} == measured


def test_the_cut_of_a_fit_is_chosen_without_the_samples_that_certify_its_exit() -> None:
    found = deal([sample(n) for n in range(200)], Preprocess(kind="identity"), None, learning=True)
    data = found.as_data()
    promising = values(found.calibration.arrays[PROMISING])
    assert not (values(data.calibration) | values(data.held_out)) & promising
    assert len(data.calibration) + len(data.held_out) + len(promising) == len(found.calibration)


def test_targets_go_with_their_samples() -> None:
    found = deal([sample(n) for n in range(40)], Preprocess(kind="identity"), range(40))
    assert found.held_out.targets is not None
    assert [str(each) for each in found.held_out.targets] == list(found.held_out.names)


def test_of_many_samples_the_classes_are_those_of_the_ones_that_are_taken(tmp_path: Path) -> None:
    save(tmp_path, a=np.arange(10, dtype=np.float32)[:, None], b=np.arange(10, 15, dtype=np.float32)[:, None])
    (tmp_path / "t").write_text("\n".join(map(str, range(15))))
    labels = tuple(map(str, range(15)))
    found = read_samples(tmp_path, (1,), 5)
    assert targets_of(found, labels, tmp_path / "t") == tuple(int(each.array[0]) for each in found)
    (tmp_path / "t").write_text("0\n" * len(found))
    with pytest.raises(ConfigError, match=r"has 4 lines, there are 15 samples"):
        targets_of(found, labels, tmp_path / "t")


@pytest.mark.parametrize("shape", [(1, 65_537), (1, 2, 1, 2, 1, 2, 1)])
def test_samples_that_no_spec_can_state_are_refused(shape: tuple[int, ...]) -> None:
    samples = [Sample(f"{n}", "", np.full(shape, n, np.float32), n, 20) for n in range(20)]
    with pytest.raises(SampleError, match="cut such samples into windows, or reshape them"):
        deal(samples, Preprocess(kind="identity"), None)


def test_classes_are_sub_folders_numbers_or_what_is_told(tmp_path: Path) -> None:
    samples = [sample(n, f"{10 - n}") for n in range(3)]
    assert class_names(samples, None, 3) == ("8", "9", "10")
    assert class_names(samples, None, 2) == ("0", "1")
    assert targets_of(samples, ("8", "9", "10"), None) == (2, 1, 0)
    assert targets_of([*samples, sample(4)], ("8", "9", "10"), None) is None
    (tmp_path / "t").write_text("8\n9\n\n1\n")
    assert targets_of(samples, ("8", "9", "10"), tmp_path / "t") == (0, 1, 1)
    (tmp_path / "t").write_text("8\n9\nbird\n")
    with pytest.raises(ConfigError, match="names 'bird', which is none of the 3 classes"):
        targets_of(samples, ("8", "9", "10"), tmp_path / "t")
