from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bundle import MAX_MANIFEST_BYTES, Manifest, canonical_json, parse_manifest, seal
from schemas.errors import ConfigError, ManifestError
from tests.schemas.manifests import fields, manifest_bytes, without

INTERFACE = "2fa9cdbf7613eb8a659d933eeb61e46001495ec85f7b02f6c777d1b6d067ea58"


def changed(path: str, value: Any) -> dict[str, Any]:
    """Fields of the sample manifest with the value at a dotted path replaced."""
    result = fields()
    *way, last = path.split(".")
    place: Any = result
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = value
    return result


def test_what_was_sealed_is_read_back_equal() -> None:
    manifest = seal(fields())
    assert parse_manifest(manifest_bytes(manifest)) == manifest
    assert parse_manifest(json.dumps(json.loads(manifest_bytes(manifest)), indent=2).encode()) == manifest


def test_the_interface_digest_is_the_same_for_ever() -> None:
    manifest = seal(fields())
    assert manifest.interface == INTERFACE
    assert manifest.frame_digest.hex() == INTERFACE[:16]
    assert manifest.line == "1.4"


_SHARED = [
    ("cut.shape", [3, 5, 2]),
    ("sample.shape", [7, 6, 3]),
    ("preprocess.scale", 1 / 256),
    ("preprocess.mean", [0.485, 0.456, 0.407]),
    ("preprocess.std", [0.229]),
    ("labels", ["boot", "bag", "Füße"]),
    ("labels.1", "Fuesse"),
    ("pairing", "5b" * 32),
    ("points.0.id", 9),
    ("points.0.codec", "affine"),
    ("points.1.config.bits", 5),
    ("points.1.config.scale", [0.1, 0.2, 0.30000001]),
    ("points.1.config.zero", [-0.8]),
    ("points.2.config", {"format": "png"}),
    ("points", fields()["points"][:2]),
    ("points", fields()["points"][::-1]),
]


@pytest.mark.parametrize(("path", "value"), _SHARED)
def test_the_interface_changes_with_all_that_both_halves_share(path: str, value: Any) -> None:
    altered = changed(path, value)
    if path == "points.0.codec":
        altered["points"][0]["config"] = {"bits": 2, "scale": [1.0], "zero": [0.0]}
    assert seal(altered).interface != INTERFACE


def test_the_interface_changes_with_the_part_that_finishes() -> None:
    image = {"id": 0, "codec": "minmax_u8", "part": "tail"}
    sample = {"dtype": "float32", "shape": [3, 2, 5]}
    base = fields(sample=sample, preprocess={"kind": "identity"}, points=[image])
    assert seal(base).interface != seal({**base, "points": [{**image, "part": "full"}]}).interface


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "other"),
        ("edge_version", "1.4.9"),
        ("cloud_version", "1.4.9"),
        ("exit", None),
        ("exit.temperature", 2.0),
        ("exit.threshold", 0.5),
        ("profile.head_macs", 5),
        ("points.0.mean_bytes", 12.5),
        ("tail_temperature", 1.25),
        ("full_temperature", 1.25),
        ("files", {name: {"size": 1, "sha256": "0" * 64} for name in fields()["files"]}),
    ],
)
def test_the_interface_does_not_change_with_what_one_half_alone_has(path: str, value: Any) -> None:
    assert seal(changed(path, value)).interface == INTERFACE


_finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.floats(1e-30, 1e30), min_size=3, max_size=3), st.floats(-1e30, 1e30), st.floats(-1e12, 1e12))
def test_any_configuration_keeps_its_interface_through_json(scale: list[float], zero: float, mean: float) -> None:
    altered = changed("points.1.config", {"bits": 8, "scale": tuple(scale), "zero": [zero]})
    altered["preprocess"]["mean"] = [mean]
    manifest = seal(altered)
    again = parse_manifest(manifest_bytes(manifest))
    assert again.interface == manifest.interface == again.computed_interface()


_text = st.text(st.characters(codec="utf-8"))
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | _finite | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
)


@given(_json)
def test_canonical_json_is_ascii_and_survives_being_read(value: Any) -> None:
    data = canonical_json(value)
    assert data.isascii()
    assert canonical_json(json.loads(data)) == data


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": [1.5]}) == canonical_json({"a": (1.5,), "b": 1}) == b'{"a":[1.5],"b":1}'


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), b"bytes", {1, 2}, np.float32(1), {1: 2, "a": 3}, object()]
)
def test_a_value_that_json_cannot_hold_is_a_config_error(value: Any) -> None:
    with pytest.raises(ConfigError, match="use plain numbers"):
        canonical_json({"a": [value]})


_REQUIRED = [name for name, field in Manifest.model_fields.items() if field.is_required()]


@pytest.mark.parametrize("name", sorted(set(_REQUIRED) - {"interface"}))
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(ManifestError, match=f"{name}: Field required"):
        seal(without(name))
    document = json.loads(manifest_bytes())
    del document[name]
    with pytest.raises(ManifestError, match=f"{name}: Field required"):
        parse_manifest(json.dumps(document).encode())


_BAD: list[tuple[str, Any, str]] = [
    ("name", "A/B", "name"),
    ("name", "../up", "name"),
    ("edge_version", "1.4", "write major.minor.patch"),
    ("edge_version", "1.٤.0", "edge_version"),
    ("edge_version", 1.4, "edge_version"),
    ("cloud_version", "1.5.0", "release both halves as one line"),
    ("sample", {"dtype": "float64", "shape": [1]}, "sample.dtype"),
    ("sample", {"dtype": "uint8", "shape": [6, 7]}, "preprocess image takes"),
    ("sample", [1, 2], "sample"),
    ("sample.shape", [65_536] * 6, "the cap is"),
    ("cut.shape", [0], "cut.shape"),
    ("cut.shape", [5, 2], "scale has 3 values for 5 channels"),
    ("cut", None, "cut"),
    ("preprocess.mean", [0.5, 0.5], "mean and std take 1 or 3 values"),
    ("preprocess.std", [0.0], "preprocess.std"),
    ("labels", [], "labels"),
    ("labels", "abc", "labels"),
    ("labels", [1, 2], "labels"),
    ("points", [], "points"),
    ("points", 5, "points"),
    ("points", [None], "points.0"),
    ("points.1.id", 0, "two operating points have the same id"),
    ("points.0.id", 256, "points.0.id"),
    ("points.0.part", "head", "points.0.part"),
    ("points.0.codec", "zip", "no codec is called 'zip'; this release knows"),
    ("points.0.config", {"bits": 8}, "leave it empty"),
    ("points.0.config", [1], "points.0.config"),
    ("points.1.config.bits", 9, "codec affine: bits"),
    ("points.1.config.bits", "4", "codec affine: bits"),
    ("points.1.config.scale", [0.0], "codec affine: scale"),
    ("points.1.config.scale", [1e-50], "codec affine: scale"),
    ("points.1.config.scale", [True], "codec affine: scale"),
    ("points.1.config.extra", 1, "codec affine: extra"),
    ("points.2.config", {"format": "jpeg"}, "jpeg needs a quality"),
    ("exit.threshold", 1.5, "exit.threshold"),
    ("tail_temperature", 0, "tail_temperature"),
    ("profile.head_macs", -1, "profile.head_macs"),
    ("files", {}, "a bundle needs a head"),
    ("files", {"head.npz": {"size": 1, "sha256": "0" * 64}}, "needs tail.pt2, which files does not name"),
    ("files", {"../head.npz": {"size": 1, "sha256": "0" * 64}}, "files"),
    ("files", {"/etc/passwd": {"size": 1, "sha256": "0" * 64}}, "files"),
    ("files", {"a/b": {"size": 1, "sha256": "0" * 64}}, "files"),
    ("files", {"..": {"size": 1, "sha256": "0" * 64}}, "files"),
    ("files", {".hidden": {"size": 1, "sha256": "0" * 64}}, "files"),
    ("files", {"a\\b": {"size": 1, "sha256": "0" * 64}}, "files"),
    ("files", {"a\n": {"size": 1, "sha256": "0" * 64}}, "files"),
    ("files", {"a" * 128: {"size": 1, "sha256": "0" * 64}}, "files"),
    ("files", ["head.npz"], "files"),
    ("pairing", "5A" * 32, "pairing"),
    ("pairing", "5a" * 31, "pairing"),
]


@pytest.mark.parametrize(("path", "value", "message"), _BAD)
def test_a_wrong_field_is_named_when_sealing_and_when_reading(path: str, value: Any, message: str) -> None:
    altered = changed(path, value)
    with pytest.raises(ManifestError, match=message):
        seal(altered)
    with pytest.raises(ManifestError, match=message):
        parse_manifest(json.dumps({**altered, "interface": "0" * 64}).encode())


@pytest.mark.parametrize("value", [float("nan"), np.float32(1), b"x", {1, 2}])
def test_a_configuration_that_json_cannot_hold_is_a_manifest_error(value: Any) -> None:
    with pytest.raises(ManifestError):
        seal(changed("points.1.config.zero", [value]))


def test_another_interface_than_that_of_the_parts_is_refused() -> None:
    document = {**fields(), "interface": "0" * 64}
    with pytest.raises(ManifestError, match="rebuild the bundle"):
        parse_manifest(json.dumps(document).encode())


@pytest.mark.parametrize(("name", "value"), [("unknown", 1), ("format", 2), ("format", "1"), ("tail_temperature", "1")])
def test_an_unknown_field_format_or_type_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ManifestError, match=name):
        parse_manifest(json.dumps({**json.loads(manifest_bytes()), name: value}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"not json",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
        b'{"name":"\\ud800"}',
        b"\x00",
        manifest_bytes() + b"x",
    ],
    ids=range(12),
)
def test_what_is_not_a_json_object_is_a_manifest_error(data: bytes) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.json cannot be used"):
        parse_manifest(data)


def test_a_manifest_over_the_cap_is_refused_before_it_is_read() -> None:
    with pytest.raises(ManifestError, match="the cap is"):
        parse_manifest(b" " * (MAX_MANIFEST_BYTES + 1))


@given(st.data())
def test_a_manifest_cut_short_is_a_manifest_error(data: st.DataObject) -> None:
    whole = manifest_bytes()
    with pytest.raises(ManifestError):
        parse_manifest(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.data())
def test_a_manifest_with_one_byte_changed_is_read_or_is_a_manifest_error(data: st.DataObject) -> None:
    whole = bytearray(manifest_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_manifest(bytes(whole))
    except ManifestError as error:
        assert str(error)  # noqa: PT017


def test_a_point_is_found_by_its_id_and_knows_its_tensor() -> None:
    manifest = seal(fields())
    tail, full = manifest.point(1), manifest.point(2)
    assert manifest.point(77) is None
    assert tail is not None
    assert full is not None
    assert (manifest.spec_of(tail), manifest.spec_of(full)) == (manifest.cut, manifest.sample)
