"""The parts of a build by themselves: samples read and dealt, rates found, the folder in its place."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_worker.build.bundle_folder import beside, check_target
from cloud_worker.build.codecs.rates import WANTED, coarsest, cut_rates, input_rates
from cloud_worker.build.samples.dealt import PROMISING, class_names, deal, targets_of
from cloud_worker.build.samples.files import MOST, Sample, read_samples
from schemas.errors import ConfigError, SampleError
from schemas.preprocess import Preprocess
from schemas.tensor import Array, TensorSpec

REFERENCE = Path(__file__).parents[3] / "models" / "fashion_mnist" / "bundle"


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


@pytest.mark.parametrize(
    ("costs", "wanted"),
    [
        ([0, 0, 0, 0.005, 0.02, 0.04, 0.1, 0.15, 0.3], [3, 5, 7]),
        ([0] * 9, [4, 6, 8]),
        ([0.5] * 9, [0, 2, 4]),
        ([0, 0], [0, 1]),
    ],
)
def test_rates_are_the_coarsest_that_cost_no_more_than_is_wanted(costs: list[float], wanted: list[int]) -> None:
    found = coarsest(range(len(costs)), lambda index: costs[index])
    assert found == wanted
    assert len(found) <= len(WANTED)


def test_an_input_that_no_frame_carries_is_left_out() -> None:
    spec = TensorSpec(dtype="float32", shape=(20_000,))
    found = input_rates(spec, floats(2, 20_000))
    assert found.points == []
    assert "a frame has 65,536" in found.left_out[0]


def test_a_cut_that_the_output_does_not_feel_is_refused() -> None:
    import torch  # noqa: PLC0415

    class Deaf(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :3] * 0

    for shape in ((6,), (2, 3, 3)):
        with pytest.raises(ConfigError, match="the output does not depend on this cut"):
            cut_rates(Deaf(), torch.from_numpy(floats(8, *shape)))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((6,), ("affine", {"bits": 6, "scale": [0.1], "zero": [-3.0]})), ((3, 4, 4), ("transform", {"level": -11}))],
)
def test_the_point_that_a_plan_chose_is_built(shape: tuple[int, ...], wanted: tuple[str, dict[str, Any]]) -> None:
    import torch  # noqa: PLC0415

    tail = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3))
    cuts = torch.from_numpy(floats(16, *shape))
    tail(cuts)
    found = cut_rates(tail.eval(), cuts, wanted=wanted)
    assert wanted in [(point["codec"], point["config"]) for point in found.points]
    assert wanted not in [(point["codec"], point["config"]) for point in cut_rates(tail, cuts).points]


def test_a_map_that_transform_cannot_be_fitted_to_travels_through_bottleneck() -> None:
    import torch  # noqa: PLC0415

    class Numb(torch.nn.Module):
        """Its gradients are far below what table `inverse_scale` can hold."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1e-6 * x.mean((2, 3))

    found = cut_rates(Numb(), torch.from_numpy(floats(16, 3, 4, 4)))
    assert {point["codec"] for point in found.points} == {"bottleneck", "minmax_u8"}
    assert "codec transform" in found.left_out[0]


def test_a_folder_takes_its_place_when_whole_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    for text in ("one", "two"):
        with beside(target) as folder:
            (folder / "file").write_text(text)
        assert (target / "file").read_text() == text
    with pytest.raises(KeyboardInterrupt), beside(target) as folder:
        _stop_after((folder / "file").write_text("three"))
    assert (target / "file").read_text() == "two"
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]


def _stop_after(_: int) -> None:
    raise KeyboardInterrupt


def test_parents_that_were_made_for_nothing_are_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), beside(tmp_path / "one" / "two" / "bundle") as folder:
        _stop_after((folder / "file").write_text("three"))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="File exists"), beside(tmp_path / "file" / "bundle"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_bundle_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with beside(tmp_path / "link") as folder:
        (folder / "file").write_text("one")
    assert (tmp_path / "real" / "file").read_text() == "one"
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}


def test_nothing_but_a_bundle_is_replaced(tmp_path: Path) -> None:
    target, samples = tmp_path / "target", tmp_path / "samples"
    check_target(target, samples)
    target.mkdir()
    check_target(target, samples)
    shutil.copy(REFERENCE / "manifest.json", target)
    shutil.copy(REFERENCE / "head.npz", target)
    check_target(target, samples)
    (target / "weights.pt").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"holds weights.pt, which is no part of a bundle; name another"):
        check_target(target, samples)
    (target / "manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"holds head.npz, which is no part"):
        check_target(target, samples)
    with pytest.raises(ConfigError, match=r"head.npz is no folder that may be written to; name another"):
        check_target(target / "head.npz" / "deep" / "bundle", samples)
    for inside in (samples, samples / "deep" / "bundle"):
        with pytest.raises(ConfigError, match="where it would be read as samples"):
            check_target(inside, samples)


def test_a_bundle_that_cannot_be_replaced_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "bundle"
    with beside(target) as folder:
        (folder / "file").write_text("one")
    real = Path.rename

    def rename(path: Path, other: Path) -> Path:
        if other == target and not path.name.endswith(".old"):
            raise OSError(28, "No space left on device")
        return real(path, other)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="No space"), beside(target) as folder:
        (folder / "file").write_text("two")
    assert (target / "file").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
