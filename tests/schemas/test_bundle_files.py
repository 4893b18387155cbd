from __future__ import annotations

import io
import json
import os
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from schemas.bundle import HEAD_NUMPY, MANIFEST, MAX_MANIFEST_BYTES, TAIL, seal
from schemas.bundle_files import Bundle, open_bundle
from schemas.errors import BundleError, DigestError, ManifestError, MissingFileError
from tests.schemas.manifests import CONTENT, fields, manifest_bytes, write_folder, write_zip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "bundle")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "bundle.zip")


@pytest.fixture(params=["folder", "archive"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return open_bundle(request.getfixturevalue(request.param))


def test_a_folder_and_a_zip_hand_out_the_same_verified_bytes(bundle: Bundle) -> None:
    bundle.verify()
    assert bundle.manifest == seal(fields())
    assert {name: bundle.read(name) for name in CONTENT} == CONTENT


def test_a_name_that_the_manifest_does_not_have_is_refused_with_those_it_has(bundle: Bundle) -> None:
    for name in ("other.bin", "../secret", MANIFEST, ""):
        with pytest.raises(MissingFileError, match=f"names no {name}; it has full.pt2, head.npz"):
            bundle.read(name)


def test_a_path_without_a_bundle_is_refused_with_what_to_give(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    for place, fact in ((tmp_path / "nowhere", "there is no bundle"), (text, "neither a folder nor a zip file")):
        with pytest.raises(BundleError, match=f"{fact}.*give the folder or zip file"):
            open_bundle(place)


def test_a_bundle_without_a_manifest_is_a_manifest_error(folder: Path, tmp_path: Path) -> None:
    (folder / MANIFEST).unlink()
    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    for place in (folder, empty):
        with pytest.raises(ManifestError, match=r"manifest.json is missing .*; fetch the bundle again"):
            open_bundle(place)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b"{}"])
def test_an_unreadable_manifest_is_a_manifest_error(tmp_path: Path, data: bytes) -> None:
    for place in (write_folder(tmp_path / "bundle", data), write_zip(tmp_path / "bundle.zip", manifest=data)):
        with pytest.raises(ManifestError, match=r"manifest.json cannot be used"):
            open_bundle(place)


def test_a_manifest_that_is_a_folder_is_a_manifest_error(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()
    with pytest.raises(ManifestError, match="no such regular file"):
        open_bundle(folder)


def test_a_manifest_over_the_cap_is_a_manifest_error(tmp_path: Path) -> None:
    data = manifest_bytes() + b" " * MAX_MANIFEST_BYTES
    for place in (write_folder(tmp_path / "bundle", data), write_zip(tmp_path / "bundle.zip", manifest=data)):
        with pytest.raises(ManifestError, match="the cap is 4194304"):
            open_bundle(place)


def test_a_missing_file_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / TAIL).unlink()
    partial = tmp_path / "partial.zip"
    with zipfile.ZipFile(partial, "w") as writer:
        writer.writestr(MANIFEST, manifest_bytes())
    for place in (folder, partial):
        with pytest.raises(MissingFileError, match=r"tail.pt2 is missing from .*; fetch the bundle again"):
            open_bundle(place).read(TAIL)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_not_a_regular_file_is_missing(folder: Path, kind: str) -> None:
    (folder / TAIL).unlink()
    (folder / TAIL).mkdir() if kind == "folder" else os.mkfifo(folder / TAIL)
    with pytest.raises(MissingFileError, match=r"tail.pt2 .*no such regular file"):
        open_bundle(folder).read(TAIL)


@pytest.mark.parametrize("data", [b"", CONTENT[TAIL][:-1], CONTENT[TAIL] + b"\0", bytes(10 << 20)])
def test_a_file_of_another_size_is_a_digest_error_that_names_both(folder: Path, data: bytes) -> None:
    (folder / TAIL).write_bytes(data)
    with pytest.raises(DigestError, match=f"tail.pt2 in .* has {len(data)} bytes, the manifest says 1024; fetch"):
        open_bundle(folder).read(TAIL)


def test_a_stated_size_of_four_gigabytes_allocates_nothing(tmp_path: Path) -> None:
    files = {name: {**entry, "size": 1 << 32} for name, entry in fields()["files"].items()}
    manifest = manifest_bytes(seal(fields(files=files)))
    for place in (write_folder(tmp_path / "bundle", manifest), write_zip(tmp_path / "bundle.zip", manifest=manifest)):
        bundle = open_bundle(place)
        tracemalloc.start()
        with pytest.raises(DigestError, match="the manifest says 4294967296"):
            bundle.read(TAIL)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


@pytest.mark.parametrize("place", [0, 500, 1023])
def test_one_flipped_byte_in_a_folder_is_a_digest_error(folder: Path, place: int) -> None:
    data = bytearray(CONTENT[TAIL])
    data[place] ^= 1
    (folder / TAIL).write_bytes(data)
    bundle = open_bundle(folder)
    with pytest.raises(DigestError, match=r"tail.pt2 in .* has SHA-256 .*, the manifest says .*; fetch"):
        bundle.verify()
    assert bundle.read(HEAD_NUMPY) == CONTENT[HEAD_NUMPY]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_any_flipped_byte_in_a_zip_is_a_bundle_error_or_changes_nothing(tmp_path: Path, method: int) -> None:
    whole = write_zip(tmp_path / "good.zip", method).read_bytes()
    place = tmp_path / "bad.zip"
    for at in range(0, len(whole), 3 if method == zipfile.ZIP_DEFLATED else 13):
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            bundle = open_bundle(place)
            bundle.verify()
        except BundleError as error:
            assert "; " in str(error)  # noqa: PT017
        else:
            assert bundle.manifest == seal(fields())


def test_any_zip_cut_short_is_a_bundle_error(tmp_path: Path, archive: Path) -> None:
    whole = archive.read_bytes()
    place = tmp_path / "short.zip"
    for length in range(0, len(whole), 11):
        place.write_bytes(whole[:length])
        with pytest.raises(BundleError):
            open_bundle(place).verify()


def test_a_damaged_member_is_a_digest_error(tmp_path: Path) -> None:
    place = write_zip(tmp_path / "bundle.zip", zipfile.ZIP_STORED)
    place.write_bytes(place.read_bytes().replace(CONTENT[HEAD_NUMPY], b"H" + CONTENT[HEAD_NUMPY][1:]))
    with pytest.raises(DigestError, match=r"head.npz in .* is damaged .*; fetch the bundle again"):
        open_bundle(place).read(HEAD_NUMPY)


BOMB = (64 << 20) + 0x2B3A59
"""Bytes; as four bytes they stand nowhere else in the archive."""


def _lying_zip(claimed: int, real: int) -> bytes:
    """A zip whose tail inflates to `real` zeros while its directory claims another size."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr(MANIFEST, manifest_bytes())
        writer.writestr(TAIL, bytes(real))
    return file.getvalue().replace(real.to_bytes(4, "little"), claimed.to_bytes(4, "little"))


@pytest.mark.parametrize("claimed", [len(CONTENT[TAIL]), BOMB])
def test_a_zip_bomb_is_a_digest_error_and_never_inflated(tmp_path: Path, claimed: int) -> None:
    place = tmp_path / "bomb.zip"
    place.write_bytes(_lying_zip(claimed, BOMB))
    bundle = open_bundle(place)
    tracemalloc.start()
    with pytest.raises(DigestError, match=r"tail.pt2"):
        bundle.read(TAIL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_cannot_be_bounded_is_refused(tmp_path: Path, method: int) -> None:
    with pytest.raises(ManifestError, match="only stored and deflated"):
        open_bundle(write_zip(tmp_path / "bundle.zip", method))


def test_an_encrypted_member_is_a_manifest_error(tmp_path: Path, archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    place = tmp_path / "encrypted.zip"
    place.write_bytes(data)
    with pytest.raises(ManifestError, match="encrypted"):
        open_bundle(place)


def test_a_member_outside_the_bundle_is_never_reached(tmp_path: Path) -> None:
    document = json.loads(manifest_bytes())
    document["files"]["../secret"] = document["files"][TAIL]
    (tmp_path / "secret").write_bytes(CONTENT[TAIL])
    with pytest.raises(ManifestError, match="files"):
        open_bundle(write_folder(tmp_path / "bundle", json.dumps(document).encode()))
