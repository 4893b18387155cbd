"""`edge-node profile` as a real process: JSON for heads, one clear line and exit code 2 for what is none."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from broker.stopwatch import device_name, timing
from tests.edge_node.commands import LIMIT_S, ROOT

BUNDLE = ROOT / "models" / "fashion_mnist" / "bundle"


def edge_node(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "error", "-m", "edge_node", "profile", *map(str, arguments)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S)


def test_two_heads_one_of_each_kind(tmp_path: Path) -> None:
    names = ["head.npz"]
    if importlib.util.find_spec("ai_edge_litert"):
        names.append("head.tflite")
    for name in names:
        shutil.copy(BUNDLE / name, tmp_path / name)
    ended = edge_node(tmp_path, "--seconds", "0.1")
    assert (ended.returncode, ended.stderr) == (0, "")
    data = json.loads(ended.stdout)
    assert [entry["file"] for entry in data["entries"]] == names
    for entry in data["entries"]:
        assert 0 < entry["p50_ms"] <= entry["p95_ms"]
        assert entry["sha256"] == hashlib.sha256((tmp_path / entry["file"]).read_bytes()).hexdigest()
    assert data["runtime"].split("+")[0] == "numpy"
    assert data["device"] == device_name()


def test_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    ended = edge_node(BUNDLE / "head.npz", "--seconds", "0", "--json", path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("head.npz  ")
    assert json.loads(path.read_text())["entries"][0]["file"] == "head.npz"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("head.npz", b"nothing", "not a zip file"),
        ("head.tflite", b"nothing at all", "TFL3"),
        ("notes.txt", b"", "give heads, or a folder of them"),
        (None, b"", "holds no *.tflite or *.npz"),
    ],
)
def test_what_is_no_head(tmp_path: Path, name: str | None, content: bytes, words: str) -> None:
    path = tmp_path / name if name else tmp_path
    if name:
        path.write_bytes(content)
    ended = edge_node(path)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("edge-node: error: ")
    assert words in line
    assert str(path) in line


def test_a_median_lies_below_its_95th_percentile_and_arguments_are_taken_in_turn() -> None:
    seen: list[int] = []
    took = timing(seen.append, [1, 2, 3], at_least_s=0.0)
    assert 0 < took.p50_ms <= took.p95_ms
    assert seen[:6] == [1, 2, 3, 1, 2, 3]
