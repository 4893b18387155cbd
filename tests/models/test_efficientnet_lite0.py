"""EfficientNet-Lite0 in steps, the photos that it is calibrated on, and its bundle where the exporter is installed."""

from __future__ import annotations

import io
import shlex
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cloud_worker.build.samples.files import read_samples
from models.efficientnet_lite0 import nets, photos, samples
from tests.benchmarks.synthetic import photo, write_photos


@pytest.fixture(scope="module")
def net() -> torch.nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nets.make_net().eval()


@pytest.fixture(scope="module")
def weights(net: torch.nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(net.state_dict(), place)
    return place


def test_the_net_has_the_paper_s_size(net: torch.nn.Sequential) -> None:
    macs = nets.step_macs(net)
    assert len(macs) == 19
    assert sum(macs) == pytest.approx(385.19e6, abs=0.01e6)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(4.65e6, rel=0.01)


@torch.inference_mode()
@pytest.mark.parametrize(("steps", "shape"), [(3, (24, 56, 56)), (5, (40, 28, 28)), (7, (80, 14, 14)), (19, (1000,))])
def test_each_cut_has_its_shape(net: torch.nn.Sequential, steps: int, shape: tuple[int, ...]) -> None:
    assert tuple(net[:steps](torch.zeros(1, 3, nets.SIDE, nets.SIDE)).shape[1:]) == shape


def test_padding_is_tensorflow_s() -> None:
    """At stride 2 an even side is padded by one less before than after (TensorFlow's SAME), which torch cannot say."""
    layers = nets._conv(1, 1, 3, 2)
    with torch.inference_mode():
        torch.nn.init.constant_(layers[1].weight, 0.0)
        layers[1].weight[0, 0, 0, 0] = 1.0
        layers.eval()
        x = torch.arange(16.0).reshape(1, 1, 4, 4)
        assert layers(x)[0, 0].round().tolist() == [[0, 2], [8, 10]]


def test_weights_are_read_by_place(net: torch.nn.Sequential, weights: Path) -> None:
    read = nets.load_net(weights).state_dict()
    assert all(torch.equal(value, read[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"not a file of torch", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"is no state dict of torch: .*give the weights of Lite0"):
        nets.load_net(tmp_path / "net.pth")


def test_another_net_s_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    state.popitem()
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"there are \d+ tensors, the net has \d+"):
        nets.load_net(tmp_path / "short.pth")
    torch.save({**state, "last": torch.zeros(7)}, tmp_path / "shape.pth")
    with pytest.raises(ValueError, match=r"is \[7\], the net has \[1000\]"):
        nets.load_net(tmp_path / "shape.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        nets.load_net(tmp_path / "list.pth")


def test_a_photo_stays_in_its_part_whatever_comes_beside_it(tmp_path: Path) -> None:
    few = {each.name: photos.part_of(each) for each in photos.photos(write_photos(tmp_path, 4))}
    many = {each.name: photos.part_of(each) for each in photos.photos(write_photos(tmp_path, 32))}
    assert few.items() <= many.items()
    assert set(many.values()) == {"calibration", "validation", "test"}


def test_parts_share_no_photo(tmp_path: Path) -> None:
    found = photos.photos(write_photos(tmp_path, 32))
    rows = {part: photos.crops(found, part) for part in ("calibration", "validation", "test")}
    assert sum(len(crops) for crops in rows.values()) >= 3 * len(found)
    digests = [{crop.tobytes() for crop in crops} for crops in rows.values()]
    assert len(set.union(*digests)) == sum(map(len, digests))
    for part, crops in rows.items():
        np.testing.assert_array_equal(crops, photos.crops(found, part))


def test_what_is_no_photo_is_left_out(tmp_path: Path) -> None:
    photo(0).save(tmp_path / "0.png")
    photo(0).resize((300, 300)).save(tmp_path / "the_same_larger.png")
    photo(1).convert("L").save(tmp_path / "grey.png")
    photo(2).resize((100, 100)).save(tmp_path / "small.png")
    Image.new("RGB", (240, 240), "red").save(tmp_path / "drawing.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "notes.txt").write_text("no photo")
    assert [each.name for each in photos.photos(tmp_path)] == ["0.png"]


def test_a_folder_without_photos_is_said(tmp_path: Path) -> None:
    with pytest.raises(photos.PhotoError, match="no photos of 224x224 or more"):
        photos.photos(tmp_path)


def test_webp_files_inside_a_resource_file_are_found(tmp_path: Path) -> None:
    one, two = io.BytesIO(), io.BytesIO()
    photo(0).save(one, "WEBP")
    photo(1).save(two, "WEBP")
    sound = b"RIFF" + struct.pack("<I", 8) + b"WAVEfmt "
    place = tmp_path / "pictures.rcc"
    place.write_bytes(b"qres" + one.getvalue() + sound + b"between" + two.getvalue() + b"end")
    assert [data for _, data in photos._resources(place)] == [one.getvalue(), two.getvalue()]


def test_the_crops_are_written_as_files_that_a_build_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    given = write_photos(tmp_path / "photos", 4)
    assert samples.main(["--out", str(tmp_path / "crops"), "--photos", str(given)]) == 0
    found = read_samples(tmp_path / "crops", (3, 224, 224))
    assert f"{len(found)} crops" in capsys.readouterr().out
    np.testing.assert_array_equal(
        np.stack([each.array for each in found]), photos.crops(photos.photos(given), "calibration")
    )


def test_missing_photos_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert samples.main(["--out", str(tmp_path / "out"), "--photos", "nowhere"]) == 2
    assert "no photos" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_page_builds_it_as_the_benchmarks_do() -> None:
    page = (Path(samples.__file__).parent / "README.md").read_text()
    command = page[page.index("cloud-worker build") :].partition("\n\n")[0]
    told = shlex.split(command.replace("\\\n", " "))[2:]
    assert {"--samples", "--out"} < {*told}
    assert set(samples.BUILD) <= set(told)
