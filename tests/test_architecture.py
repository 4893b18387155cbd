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


def test_no_file_is_longer_than_400_lines() -> None:
    sizes = {
        path: len((ROOT / path).read_text(encoding="utf-8").splitlines())
        for path in files(*PACKAGES, "models", "benchmarks")
    }
    assert {path: size for path, size in sizes.items() if size > LONGEST_FILE} == {}


def _sleeps(path: str) -> Iterator[int]:
    """Lines that wait for the clock on the wall; under `tests.virtual_time` none does."""
    module = path.removesuffix(".py").replace("/", ".")
    speakers = [path, *(other for other in files("tests") if module in imports(other))]
    virtual = any("tests.virtual_time" in imports(each) for each in speakers)
    for node in ast.walk(tree(path)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep"):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        seconds = node.args[0] if node.args else None
        waits = isinstance(seconds, ast.Constant) and isinstance(seconds.value, int | float) and seconds.value > 0
        if owner == "time" or (owner == "asyncio" and waits and not virtual):
            yield node.lineno


@pytest.mark.parametrize("path", files("tests"))
def test_no_test_sleeps(path: str) -> None:
    assert list(_sleeps(path)) == []
