"""A bundle with `certificate.json`: what it promises is read with it, and what is not its own is refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.bundle import MANIFEST, Manifest, seal
from schemas.bundle_files import open_bundle
from schemas.certificate import CERTIFICATE, MAX_CERTIFICATE_BYTES, parse_certificate
from schemas.errors import BundleError, DigestError, ManifestError, MissingFileError
from tests.schemas.manifests import CONTENT, entries, fields
from tests.schemas.test_certificate import written

CERTIFIED: dict[str, Any] = {"temperature": 1.5, "threshold": 0.9, "coverage": 0.8, "certified": True}
COMMITTED = Path(__file__).parents[2] / "models"
Write = Callable[[Path, bytes, bytes], Path]


def manifest_of(certificate: bytes, **exit_: Any) -> Manifest:
    files = entries({**CONTENT, CERTIFICATE: certificate})
    return seal(fields(exit={**CERTIFIED, **exit_}, files=files))


def folder(place: Path, manifest: bytes, certificate: bytes) -> Path:
    place.mkdir()
    for name, data in {**CONTENT, MANIFEST: manifest, CERTIFICATE: certificate}.items():
        (place / name).write_bytes(data)
    return place


def archive(place: Path, manifest: bytes, certificate: bytes) -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, data in {**CONTENT, MANIFEST: manifest, CERTIFICATE: certificate}.items():
            writer.writestr(name, data)
    return place


@pytest.fixture(params=[folder, archive])
def write(request: pytest.FixtureRequest) -> Write:
    kind: Write = request.param
    return kind


def dumped(manifest: Manifest) -> bytes:
    return manifest.model_dump_json().encode()


def test_a_certificate_comes_with_its_bundle(tmp_path: Path, write: Write) -> None:
    bundle = open_bundle(write(tmp_path / "b", dumped(manifest_of(written())), written()))
    bundle.verify()
    assert bundle.certificate() == parse_certificate(written())


def test_a_certificate_changes_nothing_that_the_other_half_shares() -> None:
    assert manifest_of(written()).interface == seal(fields()).interface


@pytest.mark.parametrize(
    ("certificate", "says"),
    [
        (written(subject="0f" * 32), "subject is 0f0f0f0f0f0f0f0f"),
        (written(temperature=1.25), "temperature is 1.25"),
        (written(errors=21, risk=21 / 800), "risk_upper is"),
        (written(covered=20, errors=800), "800 errors among 20 covered"),
        (written(tested=[[5, 500], [800, 20], [1000, 70]]), "500 wrong of 5"),
        (written(grid=[0.8, 0.9, 0.99]), "the grid does not fall"),
        (written()[:-7], "cannot be used"),
        (b"", "cannot be used"),
        (b"\xff\xfe", "cannot be used"),
        (b"null", "cannot be used"),
    ],
)
def test_one_that_is_not_its_own_or_holds_nothing_is_refused(
    tmp_path: Path, write: Write, certificate: bytes, says: str
) -> None:
    manifest = json.loads(dumped(manifest_of(certificate or b"x")))
    manifest["files"][CERTIFICATE] = entries({CERTIFICATE: certificate})[CERTIFICATE]
    if not certificate:
        with pytest.raises(ManifestError, match=r"certificate\.json\.size"):
            open_bundle(write(tmp_path / "b", json.dumps(manifest).encode(), certificate))
        return
    bundle = open_bundle(write(tmp_path / "b", json.dumps(manifest).encode(), certificate))
    for read in (bundle.certificate, bundle.verify):
        with pytest.raises(BundleError, match=says):
            read()


@pytest.mark.parametrize(("name", "value"), [("temperature", 1.0), ("threshold", 0.8), ("coverage", 0.5)])
def test_a_manifest_whose_exit_is_not_the_certified_one_is_refused(tmp_path: Path, name: str, value: float) -> None:
    bundle = open_bundle(folder(tmp_path / "b", dumped(manifest_of(written(), **{name: value})), written()))
    with pytest.raises(BundleError, match=rf"the manifest's exit\.{name} is {value}"):
        bundle.certificate()


def test_a_certificate_that_is_missing_or_changed_is_told(tmp_path: Path, write: Write) -> None:
    manifest = dumped(manifest_of(written()))
    changed = open_bundle(write(tmp_path / "changed", manifest, written().replace(b"800, 20", b"800, 02")))
    with pytest.raises(DigestError, match=r"certificate\.json in .* has SHA-256"):
        changed.certificate()
    longer = open_bundle(write(tmp_path / "longer", manifest, written() + b" "))
    with pytest.raises(DigestError, match=rf"has {len(written()) + 1} bytes, the manifest says {len(written())}"):
        longer.certificate()
    without = folder(tmp_path / "without", manifest, written())
    (without / CERTIFICATE).unlink()
    with pytest.raises(MissingFileError, match=r"certificate\.json is missing"):
        open_bundle(without).certificate()


def test_a_stated_size_over_the_cap_is_refused_unread(tmp_path: Path) -> None:
    manifest = json.loads(dumped(manifest_of(written())))
    manifest["files"][CERTIFICATE]["size"] = MAX_CERTIFICATE_BYTES + 1
    place = folder(tmp_path / "b", json.dumps(manifest).encode(), written())
    (place / CERTIFICATE).unlink()
    with pytest.raises(BundleError, match="the cap of certificates is 262144; certify again"):
        open_bundle(place).certificate()


@pytest.mark.parametrize(
    ("exit_", "named"),
    [
        ({**CERTIFIED, "certified": False}, True),
        (CERTIFIED, False),
        (None, True),
        ({"temperature": 1.5}, True),
    ],
    ids=["certificate, not claimed", "claimed, no certificate", "certificate, no exit", "certificate, no threshold"],
)
def test_a_claim_and_its_certificate_come_together(exit_: Any, *, named: bool) -> None:
    files = entries({**CONTENT, **({CERTIFICATE: written()} if named else {})})
    with pytest.raises(ManifestError, match=r"exit\.certified is true where files names certificate\.json"):
        seal(fields(exit=exit_, files=files))


@pytest.mark.parametrize(
    ("exit_", "says"),
    [
        ({"temperature": 1.5, "threshold": 0.9}, "threshold is 0.9 and coverage None; give both, or neither"),
        ({"temperature": 1.5, "coverage": 0.9}, "threshold is None and coverage 0.9"),
        ({"temperature": 1.5, "certified": True}, "certified is true without a threshold"),
    ],
)
def test_an_exit_that_contradicts_itself_is_refused(exit_: Any, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        seal(fields(exit=exit_))


@pytest.mark.parametrize("exit_", [{"temperature": 1.5}, {"temperature": 1.5, "threshold": None, "coverage": None}])
def test_an_exit_without_a_threshold_is_an_exit(exit_: Any) -> None:
    made = seal(fields(exit=exit_))
    assert made.exit is not None
    assert (made.exit.threshold, made.exit.coverage, made.exit.certified) == (None, None, False)


@pytest.mark.parametrize("place", sorted(COMMITTED.glob("*/bundle")), ids=lambda place: place.parent.name)
def test_the_committed_bundles_load_and_claim_what_they_hold(place: Path) -> None:
    bundle = open_bundle(place)
    certificate, exit_ = bundle.certificate(), bundle.manifest.exit
    assert (certificate is not None) == (exit_ is not None and exit_.certified)
