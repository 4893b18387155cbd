"""A bundle on disk, as a folder or a zip file: nothing is handed out before its digest was checked."""

from __future__ import annotations

import errno
import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from schemas.bundle import MANIFEST, MAX_MANIFEST_BYTES, Manifest, OperatingPoint, parse_manifest
from schemas.certificate import CERTIFICATE, MAX_CERTIFICATE_BYTES, Certificate, parse_certificate
from schemas.codecs import Codec, Tables, open_codec
from schemas.codecs.tables import MAX_TABLES_BYTES, unpack_tables
from schemas.errors import BundleError, DigestError, ManifestError, MissingFileError

_BOUNDED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What Python inflates piece by piece; its bzip2 and LZMA readers inflate a whole block, however large."""
_CORRUPT: Final = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError)
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A manifest and the place of its files."""

    path: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """Whole content of a file that the manifest names.

        Raises MissingFileError when it is not there, DigestError when its size or SHA-256 is not the
        manifest's; the size is compared before anything is read.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            msg = f"the manifest of {self.path} names no {name}; it has {', '.join(sorted(self.manifest.files))}"
            raise MissingFileError(msg)
        data = _read_member(self.path, name, entry.size)
        digest = hashlib.sha256(data).hexdigest()
        if digest != entry.sha256:
            told = f"SHA-256 {digest[:16]}, the manifest says {entry.sha256[:16]}"
            msg = f"{name} in {self.path} has {told}; fetch the bundle again"
            raise DigestError(msg)
        return data

    def codec(self, point: OperatingPoint) -> Codec:
        """The codec of one of the manifest's operating points, with its tables; see `codecs`."""
        return self._codec(point, None if point.tables is None else self._tables(point.tables))

    def codecs(self) -> dict[int, Codec]:
        """The codec of every operating point by its id; a file of tables that several share is read once.

        Raises as `read` does, BundleError for a file that holds no tables, and ConfigError, naming the codec and
        the field or table, where they do not fit together.
        """
        names = {point.tables for point in self.manifest.points if point.tables is not None}
        tables = {name: self._tables(name) for name in names}
        return {
            point.id: self._codec(point, None if point.tables is None else tables[point.tables])
            for point in self.manifest.points
        }

    def _codec(self, point: OperatingPoint, tables: Tables | None) -> Codec:
        return open_codec(point.codec, self.manifest.spec_of(point), point.config, tables)

    def certificate(self) -> Certificate | None:
        """What is promised about the early exit, its arithmetic done again; None where the manifest claims nothing.

        Raises as `read` does, and BundleError, naming the field, for a certificate that contradicts itself or is of
        another exit than the manifest's.
        """
        exit_ = self.manifest.exit
        if exit_ is None or not exit_.certified:
            return None
        found = parse_certificate(self._read_small(CERTIFICATE, MAX_CERTIFICATE_BYTES, "certificates", "certify again"))
        found.check_belongs(
            pairing=self.manifest.pairing,
            temperature=exit_.temperature,
            threshold=exit_.threshold,
            coverage=exit_.coverage,
        )
        return found

    def _tables(self, name: str) -> Tables:
        return unpack_tables(self._read_small(name, MAX_TABLES_BYTES, "codec tables", "calibrate the codec again"))

    def _read_small(self, name: str, cap: int, kind: str, remedy: str) -> bytes:
        """As `read`; raises BundleError, before anything is read, where the manifest states more bytes than `cap`."""
        entry = self.manifest.files.get(name)
        if entry is not None and entry.size > cap:
            msg = f"{name} in {self.path} has {entry.size} bytes, the cap of {kind} is {cap}; {remedy}"
            raise BundleError(msg)
        return self.read(name)

    def verify(self) -> None:
        """Read and check every file, and the certificate's claim. Raises as `read` and `certificate` do."""
        for name in self.manifest.files:
            self.read(name)
        self.certificate()


def open_bundle(path: Path | str) -> Bundle:
    """The bundle at `path`, a folder or a zip file; files are checked when they are read.

    Raises ManifestError when there is no usable manifest, BundleError when `path` is neither.
    """
    place = Path(path)
    if not place.exists():
        msg = f"there is no bundle at {place}; give the folder or zip file that holds {MANIFEST}"
        raise BundleError(msg)
    if place.is_file() and not zipfile.is_zipfile(place):
        msg = f"{place} is neither a folder nor a zip file; give the folder or zip file that holds {MANIFEST}"
        raise BundleError(msg)
    try:
        data = _read_member(place, MANIFEST, None)
    except (MissingFileError, DigestError) as error:
        raise ManifestError(str(error)) from None
    return Bundle(place, parse_manifest(data))


def _read_member(path: Path, name: str, size: int | None) -> bytes:
    """Bytes of one file; `size` is what it must have, None allows up to a manifest's cap."""
    try:
        return _read_zip(path, name, size) if path.is_file() else _read_folder(path, name, size)
    except (OSError, KeyError) as error:
        msg = f"{name} is missing from {path} or cannot be read ({error}); fetch the bundle again"
        raise MissingFileError(msg) from None
    except _CORRUPT as error:
        msg = f"{name} in {path} is damaged ({error}); fetch the bundle again"
        raise DigestError(msg) from None


def _read_folder(path: Path, name: str, size: int | None) -> bytes:
    place = path / name
    if not place.is_file():
        raise FileNotFoundError(errno.ENOENT, "there is no such regular file")
    _check_size(path, name, place.stat().st_size, size)
    with place.open("rb") as file:
        return _read_all(path, name, file, size)


def _read_zip(path: Path, name: str, size: int | None) -> bytes:
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        if info.compress_type not in _BOUNDED:
            msg = "only stored and deflated files can be read piece by piece"
            raise zipfile.BadZipFile(msg)
        _check_size(path, name, info.file_size, size)
        with archive.open(info) as file:
            return _read_all(path, name, file, size)


def _read_all(path: Path, name: str, file: IO[bytes], size: int | None) -> bytes:
    """All bytes of an open file; stops one byte after the cap, whatever the file's directory claimed."""
    cap = MAX_MANIFEST_BYTES if size is None else size
    pieces: list[bytes] = []
    total = 0
    while total <= cap and (piece := file.read(min(_PIECE, cap + 1 - total))):
        pieces.append(piece)
        total += len(piece)
    _check_size(path, name, total, size)
    return b"".join(pieces)


def _check_size(path: Path, name: str, found: int, size: int | None) -> None:
    if size is not None and found != size:
        msg = f"{name} in {path} has {found} bytes, the manifest says {size}; fetch the bundle again"
        raise DigestError(msg)
    if found > MAX_MANIFEST_BYTES and size is None:
        msg = f"{name} in {path} has {found} bytes, the cap is {MAX_MANIFEST_BYTES}; this is not a manifest"
        raise ManifestError(msg)
