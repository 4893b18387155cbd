from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import schemas

MODULES = [schemas.__name__, *(found.name for found in pkgutil.walk_packages(schemas.__path__, "schemas."))]


def _public(module: ModuleType) -> Iterator[tuple[str, object]]:
    for name, member in vars(module).items():
        if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(member) or inspect.isclass(member):
            yield name, member
        if inspect.isclass(member):
            for inner, function in vars(member).items():
                plain = inspect.unwrap(getattr(function, "fget", None) or getattr(function, "__func__", function))
                if inspect.isfunction(plain) and not inner.startswith("_"):
                    yield f"{name}.{inner}", plain


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert [member for member, thing in _public(module) if not thing.__doc__] == []
