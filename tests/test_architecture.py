"""Who may import whom, and how large a file may grow: the house as a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "broker", "edge_node", "cloud_worker")
TFLITE = {"ai_edge_litert", "tflite_runtime", "tensorflow"}
TORCH = {"torch", "torchvision"}
LONGEST_FILE = 400
MAY_SLEEP = {
    "tests/broker/helpers.py": "waits for what has no event of its own",
    "tests/broker/link/configured.py": "waits until another process listens",
    "tests/system/load.py": "a steady rate of requests, and how late the loop is, are what it makes and measures",
}
"""Files of tests that wait for the clock on the wall, and why they must."""


def files(*packages: str) -> list[str]:
    """Python files below the packages, as paths from the root."""
    return sorted(str(path.relative_to(ROOT)) for package in packages for path in (ROOT / package).rglob("*.py"))


@cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


@cache
def imports(path: str) -> frozenset[str]:
    """Every module that a file imports, at whatever depth the statement stands."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return frozenset(found)


def top_level(path: str) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", files("schemas"))
def test_schemas_are_pure_and_import_nothing_of_the_house(path: str) -> None:
    moving = {"asyncio", "socket", "threading", "multiprocessing", "subprocess", "ssl", "http", "urllib", "concurrent"}
    assert not top_level(path) & (moving | TORCH | TFLITE | {"aiomqtt", "paho", "broker", "edge_node", "cloud_worker"})


@pytest.mark.parametrize("path", files("broker"))
def test_the_broker_package_knows_neither_speaker_nor_model(path: str) -> None:
    assert not top_level(path) & (TORCH | TFLITE | {"edge_node", "cloud_worker"})


@pytest.mark.parametrize("path", files("edge_node"))
def test_the_edge_never_imports_torch_nor_the_worker(path: str) -> None:
    assert not top_level(path) & (TORCH | {"cloud_worker"})


@pytest.mark.parametrize("path", files("cloud_worker"))
def test_the_worker_never_imports_tflite_nor_the_edge(path: str) -> None:
    assert not top_level(path) & (TFLITE | {"edge_node"})


def test_only_the_link_imports_aiomqtt_and_only_the_tflite_head_imports_tflite() -> None:
    everything = files(*PACKAGES)
    assert {path for path in everything if "aiomqtt" in top_level(path)} <= {"broker/connection.py"}
    assert {path for path in everything if top_level(path) & TFLITE} <= {"edge_node/tflite_head.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_no_file_is_longer_than_400_lines() -> None:
    sizes = {
        path: len((ROOT / path).read_text(encoding="utf-8").splitlines())
        for path in files(*PACKAGES, "models", "benchmarks", "tests")
    }
    assert {path: size for path, size in sizes.items() if size > LONGEST_FILE} == {}


def test_no_page_is_longer_than_400_lines() -> None:
    sizes = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "docs").glob("*.md")}
    assert {name: size for name, size in sizes.items() if size > LONGEST_FILE} == {}


def _is_virtual(path: str) -> bool:
    """Whether a test file runs in virtual time: it says so, or it only helps files that do."""
    if "tests.virtual_time" in imports(path):
        return True
    module = path.removesuffix(".py").replace("/", ".")
    helped = [other for other in files("tests") if module in imports(other)]
    return bool(helped) and all("tests.virtual_time" in imports(other) for other in helped)


def _sleeps(path: str) -> Iterator[int]:
    """Lines that may wait for the clock on the wall; `asyncio.sleep(0)`, which gives the loop a turn, does not."""
    virtual = _is_virtual(path)
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        owner, _, name = ast.unparse(node.func).rpartition(".")
        turn = [ast.unparse(each) for each in node.args] == ["0"]
        if name == "sleep" and (owner != "asyncio" or not (virtual or turn)):
            yield node.lineno


@pytest.mark.parametrize("path", files("tests"))
def test_no_test_sleeps(path: str) -> None:
    assert bool(list(_sleeps(path))) == (path in MAY_SLEEP)
