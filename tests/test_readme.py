"""The README's blocks are run as they stand; only the port, and the folder of the environment, are replaced."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"<!-- test: (\w+) -->\n```(?:bash|python)\n(.*?)```", re.DOTALL)
MODULES = {"edge-node": "edge_node", "cloud-worker": "cloud_worker", "fleet": "broker.fleet"}


def readme_blocks() -> list[tuple[str, str]]:
    return MARKED.findall((ROOT / "README.md").read_text())


def argv_of(line: str) -> list[str]:
    """A README command with this interpreter in place of the environment's."""
    program, *rest = shlex.split(line)
    name = Path(program).name
    return [sys.executable, *rest] if name == "python" else [sys.executable, "-m", MODULES[name], *rest]


@contextmanager
def running(argv: list[str], ready: str, cwd: Path = ROOT) -> Iterator[None]:
    """A process in the background, until it has said that it is ready."""
    process = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if ready in line:
                break
        else:
            pytest.fail(f"{argv} ended: {seen}")
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_no_placeholder_is_left() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert [line for line in lines if re.fullmatch(r"[A-Z][A-Z_]+", line.strip())] == []


def test_the_readme_has_blocks_of_every_kind() -> None:
    assert [kind for kind, _ in readme_blocks()] == ["background", "background", "background", "run", "python"]


@pytest.mark.timeout(120)
def test_the_parts_work_as_the_readme_says() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    blocks = [(kind, text.replace("1883", port)) for kind, text in readme_blocks()]
    signs = iter(("listening on", "ready id=", "presence"))
    with ExitStack() as stack:
        for kind, text in blocks:
            if kind == "background":
                stack.enter_context(running(argv_of(text), next(signs)))
            elif kind == "run":
                done = subprocess.run(argv_of(text), cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
                assert "10 answered" in done.stderr
                assert len(done.stdout.splitlines()) == 10
            else:
                done = subprocess.run(
                    [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
                )
                assert done.stdout.split()[0] == "ankle-boot"
