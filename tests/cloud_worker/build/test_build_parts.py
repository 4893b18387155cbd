"""The parts of a build by themselves: rates found, a head tried, the folder in its place."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_worker.build.bundle_folder import beside, check_target
from cloud_worker.build.codecs.rates import WANTED, coarsest, cut_rates, input_rates
from cloud_worker.build.export import heads
from schemas.errors import BundleError, ConfigError
from schemas.tensor import Array, TensorSpec

REFERENCE = Path(__file__).parents[3] / "models" / "fashion_mnist" / "bundle"


def floats(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


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


def test_a_head_that_takes_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # noqa: PLC0415

    monkeypatch.setattr(heads, "_LIMIT_S", 0.01)
    with pytest.raises(BundleError, match=r"head.npz takes more than 0.01 s for 2 samples; cut earlier"):
        heads.run_deployed(REFERENCE, "head.npz", torch.zeros(2, 1, 28, 28))


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
