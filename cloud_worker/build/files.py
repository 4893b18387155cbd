"""Files that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from schemas.errors import ConfigError


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the path, then rename: whoever reads it finds the old file or the new one, never a part.

    Raises ConfigError where it cannot be written; nothing is left behind then.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}; name a file in a folder that may be written to"
        raise ConfigError(msg) from None
    finally:
        _remove(aside)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # what kept it from being written keeps it from being removed, and then it is not there
