"""The page on a model of one's own is followed: its files are written, its commands run; only the port is replaced."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from schemas.bundle_files import open_bundle
from tests.test_readme import MODULES, running

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- (file|test): (\S+) -->\n```(?:bash|python)\n(.*?)```", re.DOTALL)


def blocks() -> list[tuple[str, str, str]]:
    return BLOCK.findall((ROOT / "docs" / "build.md").read_text())


def argv_of(text: str) -> list[str]:
    """A command of the page with this interpreter in place of the environment's."""
    program, *rest = shlex.split(text.replace("\\\n", " "))
    return [sys.executable, *rest] if program == "python" else [sys.executable, "-m", MODULES[program], *rest]


def test_the_page_has_blocks_of_every_kind() -> None:
    kinds = [kind if kind == "file" else name for kind, name, _ in blocks()]
    served = ["file", "file", "run", "run", "background", "background", "run"]
    assert kinds == [*served, "run", "file", "file", "run", "run", "run"]


@pytest.mark.timeout(300)
def test_a_model_of_ones_own_is_built_and_served_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "splitbus").symlink_to(ROOT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    signs, ran = iter(("listening on", "ready id=")), []
    with ExitStack() as stack:
        for kind, name, text in blocks():
            if kind == "file":
                (tmp_path / name).write_text(text)
            elif name == "background":
                stack.enter_context(running(argv_of(text.replace("1883", port)), next(signs), cwd=tmp_path))
            else:
                argv = argv_of(text.replace("1883", port))
                done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
                assert done.returncode == 0, done.stderr
                ran.append(done)
    _, built, served, learnt, _, signals, tokens = ran
    assert all("agreement" in each.stdout for each in (learnt, signals, tokens))
    assert open_bundle(tmp_path / "clothes-learnt").manifest.exit is not None
    assert open_bundle(tmp_path / "vibration-bundle").manifest.cut.shape == (16, 64)
    assert open_bundle(tmp_path / "transformer-bundle").manifest.cut.shape == (32, 16)
    assert "as the unsplit model answers in 95% of the held-out samples or more: the cut takes" in built.stdout
    assert "200 answered" in served.stderr
    manifest = open_bundle(tmp_path / "clothes").manifest
    assert manifest.profile.head_macs <= 0.7 * manifest.profile.full_macs
    assert (manifest.profile.split_accuracy or 0) > 0.5
    assert json.loads((tmp_path / "profile.json").read_text())["model"] == "clothes"
    assert "Where to split clothes" in (tmp_path / "report.html").read_text()
