"""Golden files: bytes that once were sent, and `index.json`, which says what each decodes to.

A file that is there is never written again: bytes of an old release must decode for ever. To give one up,
delete the file and its entry by hand, and say in the changelog which peers it cuts off.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
INDEX = FOLDER / "index.json"

Entry = dict[str, Any]


def read_index() -> dict[str, Entry]:
    """Entry by file name; empty before the first `--write-golden`."""
    loaded: dict[str, Entry] = json.loads(INDEX.read_text()) if INDEX.exists() else {}
    return loaded


@dataclass(frozen=True)
class Golden:
    """Reads golden files, and writes missing ones when asked to."""

    write: bool

    def bytes_of(self, name: str, fresh: bytes, entry: Entry) -> bytes:
        """Bytes of the golden file `name`; `fresh` and `entry` are what a missing one is written from."""
        path = FOLDER / name
        index = read_index()
        if self.write and (name not in index or not path.exists()):
            path.write_bytes(fresh)
            index[name] = json.loads(json.dumps(entry))
            INDEX.write_text(json.dumps(dict(sorted(index.items())), indent=1) + "\n")
        assert path.exists(), f"golden file {name} is missing; write it with: pytest --write-golden"
        assert read_index().get(name) == entry, f"index.json says something else of {name} than this release"
        return path.read_bytes()
