"""The stored profile: written and read back unchanged; every mistake names its field and value."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.profiles import random_profile
from cloud_worker.build.measure.profile_file import MAX_PROFILE_BYTES, parse_profile, read_profile, write_profile
from schemas.errors import ConfigError
from tests.cloud_worker.build.plan_profiles import tiny, tiny_profile


def encoded(profile: dict[str, Any]) -> bytes:
    return json.dumps(profile).encode()


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    profile = random_profile(7, cuts=5, points=2)
    write_profile(profile, tmp_path / "p.json")
    assert read_profile(tmp_path / "p.json") == profile
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_whole_numbers_stand_for_times_and_sizes_too() -> None:
    assert parse_profile(encoded(tiny())) == tiny_profile()


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        (lambda p: p.update(format=2), "format", "2"),
        (lambda p: p.update(colour="red"), "colour", "'red'"),
        (lambda p: p.pop("edge"), "edge", "Field required"),
        (lambda p: p.update(model=""), "model", "''"),
        (lambda p: p.update(model="a\x1b[31m"), "model", "cannot be shown"),
        (lambda p: p.update(full_macs="100"), "full_macs", "'100'"),
        (lambda p: p["edge"].update(device=None), "edge.device", "None"),
        (lambda p: p["cloud_only"].update(points=[]), "cloud_only.points", "list of 0"),
        (lambda p: p["cuts"][0].update(index=0), "cuts.0.index", "0"),
        (lambda p: p["cuts"][0].update(macs_share=1.5), "cuts.0.macs_share", "1.5"),
        (lambda p: p["cuts"][0].update(macs_share=0.4), "value", "cut 1 has macs_share 0.4, its head_macs give 0.3"),
        (lambda p: p["cuts"][0]["edge_ms"].update(p50=-1), "cuts.0.edge_ms.p50", "-1"),
        (lambda p: p["cuts"][0]["edge_ms"].update(p50=True), "cuts.0.edge_ms.p50", "True"),
        (lambda p: p["cuts"][0]["edge_ms"].update(p95=5), "cuts.0.edge_ms", "p95 5 is below p50 6"),
        (lambda p: p["cuts"][0]["cloud_ms"].update(p50=float("nan")), "cuts.0.cloud_ms.p50", "nan"),
        (lambda p: p["cuts"][0]["points"][0].update(bytes_mean=0), "cuts.0.points.0.bytes_mean", "0"),
        (lambda p: p["cuts"][0]["points"][0].update(codec="../x"), "cuts.0.points.0.codec", "'../x'"),
        (lambda p: p["cuts"][0]["points"][0].update(config={"a": float("inf")}), "cuts.0.points.0.config", "finite"),
        (lambda p: p["cuts"][0]["points"][0].update(quality={}), "cuts.0.points.0.quality", "neither kl_nats nor"),
        (lambda p: p["cuts"][0]["points"][0].update(leakage={"ssim": 2}), "cuts.0.points.0.leakage.ssim", "2"),
        (lambda p: p["edge_only"].update(quality={"accuracy": 91}), "edge_only.quality.accuracy", "91"),
        (lambda p: p["edge_only"].update(quality={"accuracy": 0.9}), "value", "share no measure of quality"),
        (lambda p: p["cuts"].append(p["cuts"][0]), "value", "indexes do not ascend"),
    ],
)
def test_a_mistake_names_the_field_and_the_value(
    change: Callable[[dict[str, Any]], Any], field: str, value: str
) -> None:
    profile = tiny()
    change(profile)
    with pytest.raises(ConfigError) as caught:
        parse_profile(encoded(profile))
    assert f"the profile cannot be used: {field}: " in str(caught.value)
    assert value in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1}', b"1" * 5000])
def test_what_is_no_profile_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^the profile cannot be used: "):
        parse_profile(data)


def test_every_prefix_is_refused() -> None:
    data = encoded(tiny())
    for end in range(len(data)):
        with pytest.raises(ConfigError):
            parse_profile(data[:end])


def test_a_file_that_is_not_there_or_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: the profile cannot be read: No such file"):
        read_profile(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="the profile cannot be read: Is a directory"):
        read_profile(tmp_path)
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(MAX_PROFILE_BYTES + 1)
    with pytest.raises(ConfigError, match=r"large\.json: the profile has \d+ bytes, the cap is"):
        read_profile(large)
