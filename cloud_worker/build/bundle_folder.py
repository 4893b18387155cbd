"""A bundle's folder while it is written: beside the target, and in its place only when it is whole."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """An empty folder beside the target, which takes the target's place when the block ends without an exception.

    Otherwise, also on Ctrl-C, it is removed and the target stays what it was. Raises OSError where the folder cannot be
    made or renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
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
    if target.exists():
        target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException:
        if aside.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
