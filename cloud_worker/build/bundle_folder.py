"""A bundle's folder while it is written: beside the target, and in its place only when it is whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud_worker.build.files import made_folder
from schemas.bundle import MANIFEST, parse_manifest
from schemas.errors import ConfigError, ManifestError


def check_target(target: Path, samples: Path) -> None:
    """Raise ConfigError where a bundle cannot be at `target`, would replace anything else, or lie among the samples."""
    nearest = next(parent for parent in target.resolve().parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        msg = f"--out {target} cannot be made: {nearest} is no folder that may be written to; name another"
        raise ConfigError(msg)
    if target.resolve().is_relative_to(samples.resolve()):
        msg = f"--out {target} lies in --samples {samples}, where it would be read as samples; name a folder beside it"
        raise ConfigError(msg)
    found = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    try:
        known = {MANIFEST, *parse_manifest((target / MANIFEST).read_bytes()).files} if found else set()
    except (OSError, ManifestError):
        known = set()
    stranger = next((name for name in found if name not in known), None)
    if stranger is not None:
        msg = f"--out {target} is there and holds {stranger}, which is no part of a bundle; name another folder"
        raise ConfigError(msg)


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """An empty folder beside the target, which takes the target's place when the block ends without an exception.

    Otherwise, also on Ctrl-C, it is removed with the parents that were made for it, and the target stays what it was.
    Raises OSError where the folder cannot be made or renamed.
    """
    target = target.resolve()
    with made_folder(target.parent):
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            _replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file in the folder, by name, as a manifest lists them."""
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return {name: {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()} for name, raw in found.items()}


def _replace(temporary: Path, target: Path) -> None:
    """Rename over; a bundle that was there goes aside first, comes back if that fails, and is removed after."""
    aside = temporary.with_name(f"{temporary.name}.old")
    try:
        if target.exists():
            target.rename(aside)
        temporary.rename(target)
    finally:
        if aside.exists() and not target.exists():
            aside.rename(target)
        shutil.rmtree(aside, ignore_errors=True)
