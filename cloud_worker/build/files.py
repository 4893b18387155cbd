"""Files that are either whole or not there, and folders that are not left empty."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
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


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder and its parents for a block; those of them that are empty at its end, however it ends, are removed.

    What was there before stays. Raises OSError where one cannot be made.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with contextlib.suppress(OSError):  # the first that holds something, or was never made
            for each in made:
                each.rmdir()


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # what kept it from being written keeps it from being removed, and then it is not there
