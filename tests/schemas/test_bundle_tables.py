"""The way of codec tables: from a file of the bundle, through its digests, into the codecs of both halves."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.bundle import MANIFEST, TABLES, Manifest, parse_manifest, seal
from schemas.bundle_files import Bundle, open_bundle
from schemas.codecs import CODECS
from schemas.codecs.tables import MAX_TABLES_BYTES, pack_tables
from schemas.errors import BundleError, ConfigError, DigestError, ManifestError, MissingFileError
from tests.schemas import lookup
from tests.schemas.manifests import CONTENT, entries, fields, manifest_bytes, write_folder

PACKED = pack_tables(lookup.TABLES)
_LOOKUP: dict[str, Any] = {"id": 7, "part": "tail", "codec": "lookup", "tables": TABLES}
COARSE = {**_LOOKUP, "id": 8, "config": {"table": "coarse"}}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, "lookup", lookup.Lookup)


def with_tables(content: bytes = PACKED, points: tuple[dict[str, Any], ...] = (_LOOKUP, COARSE)) -> dict[str, Any]:
    base = fields()
    return {**base, "points": [*base["points"], *points], "files": entries({**CONTENT, TABLES: content})}


def bundle_of(place: Path, altered: dict[str, Any], content: bytes = PACKED) -> Bundle:
    write_folder(place, manifest_bytes(seal(altered)), **{TABLES: content})
    return open_bundle(place)


def test_each_point_gets_its_tables_from_a_folder_and_from_a_zip(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "folder", with_tables())
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        for name in (MANIFEST, *bundle.manifest.files):
            archive.write(tmp_path / "folder" / name, name)
    array = np.full(bundle.manifest.cut.shape, 0.8, np.float32)
    for each in (bundle, open_bundle(tmp_path / "bundle.zip")):
        codecs = each.codecs()
        assert list(codecs) == [0, 1, 2, 7, 8]
        assert codecs[7].decode(codecs[7].encode(array)).flat[0] == pytest.approx(0.8, abs=0.01)
        assert codecs[8].decode(codecs[8].encode(array)).flat[0] == pytest.approx(0.75, abs=0.01)
        for point in each.manifest.points:
            if point.part == "tail":
                assert each.codec(point).encode(array) == codecs[point.id].encode(array)


def test_a_file_that_points_share_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, read = bundle_of(tmp_path / "bundle", with_tables()), Bundle.read
    names: list[str] = []
    monkeypatch.setattr(Bundle, "read", lambda self, name: names.append(name) or read(self, name))
    bundle.codecs()
    assert names == [TABLES]


def test_a_bundle_without_tables_opens_its_codecs_without_reading_a_file(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "bundle")
    bundle = open_bundle(place)
    for name in CONTENT:
        (place / name).unlink()
    assert [codec.id for codec in bundle.codecs().values()] == ["minmax_u8", "affine", "input"]


def interface(altered: dict[str, Any]) -> str:
    return seal(altered).interface


def test_the_interface_covers_the_tables_that_a_point_uses_and_no_others() -> None:
    assert interface(with_tables(PACKED)) != interface(with_tables(pack_tables({"values": lookup.VALUES + 1})))
    unused = interface(with_tables(PACKED, points=()))
    assert unused == interface(with_tables(b"others", points=())) == interface(fields())


def test_the_digest_of_the_tables_is_what_counts_not_the_name_of_their_file() -> None:
    other = with_tables()
    other["files"]["b.tables"] = other["files"].pop(TABLES)
    other["points"][3:] = [{**point, "tables": "b.tables"} for point in other["points"][3:]]
    assert interface(other) == interface(with_tables())
    assert seal(other).files["b.tables"].sha256 == hashlib.sha256(PACKED).hexdigest()


def test_a_sealed_manifest_with_tables_is_read_back_equal() -> None:
    manifest = seal(with_tables())
    again: Manifest = parse_manifest(manifest_bytes(manifest))
    assert again == manifest
    assert [point.tables for point in again.points] == [None, None, None, TABLES, TABLES]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({**_LOOKUP, "tables": None}, "codec lookup needs tables; name the file"),
        ({**_LOOKUP, "codec": "minmax_u8"}, "operating point 7 names tables, which codec minmax_u8 does not take"),
        ({**_LOOKUP, "tables": "other.tables"}, "operating point 7 needs other.tables, which files does not name"),
        ({**_LOOKUP, "codec": "zip"}, "no codec is called 'zip'"),
        ({**_LOOKUP, "tables": "../up"}, "points.3.tables"),
    ],
)
def test_a_point_whose_tables_do_not_fit_its_codec_is_refused_when_sealing(point: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        seal(with_tables(points=(point,)))


def test_tables_that_are_missing_or_changed_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "changed", with_tables(), PACKED[:-1] + b"\x00")
    with pytest.raises(DigestError, match=TABLES):
        bundle.codecs()
    (tmp_path / "changed" / TABLES).unlink()
    with pytest.raises(MissingFileError, match=TABLES):
        bundle.codecs()


def test_a_file_that_holds_no_tables_or_not_those_of_the_codec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a file of codec tables"):
        bundle_of(tmp_path / "other", with_tables(b"other"), b"other").codecs()
    wrong = pack_tables({"values": np.zeros(3)})
    with pytest.raises(ConfigError, match=r"table values is float64\[3\], expected float32\[any\]"):
        bundle_of(tmp_path / "wrong", with_tables(wrong), wrong).codecs()


def test_tables_over_the_cap_are_refused_unread(tmp_path: Path) -> None:
    altered = with_tables()
    altered["files"][TABLES]["size"] = MAX_TABLES_BYTES + 1
    bundle = bundle_of(tmp_path / "bundle", altered)
    (tmp_path / "bundle" / TABLES).unlink()
    with pytest.raises(BundleError, match="the cap of codec tables"):
        bundle.codecs()
