from __future__ import annotations

import inspect

import pytest

from schemas import errors


def drawn() -> dict[str, str]:
    """Parent by class name, from the tree in the docstring of schemas.errors."""
    path: list[str] = []
    parents: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if "Error" not in line or not line.startswith("    "):
            continue
        body = line[4:]
        depth = (len(body) - len(body.lstrip("│├└─ "))) // 4
        name = body.lstrip("│├└─ ").split()[0]
        path = [*path[:depth], name]
        parents[name] = path[-2] if depth else "Exception"
    return parents


def real() -> dict[str, str]:
    classes = inspect.getmembers(errors, inspect.isclass)
    return {name: kind.__bases__[0].__name__ for name, kind in classes if kind.__module__ == errors.__name__}


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    assert drawn() == real()


@pytest.mark.parametrize("name", real())
def test_every_error_is_one_of_ours_and_says_what_it_means(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.SplitbusError)
    assert (kind.__doc__ or "").endswith(".")


def test_facts_are_attributes_and_the_remedy_ends_the_message() -> None:
    large = errors.TooLargeError("the frame", 9, 8, "send less")
    assert (large.what, large.size, large.cap) == ("the frame", 9, 8)
    assert str(large) == "the frame has 9 bytes, the cap is 8; send less"
    pair = errors.InterfaceMismatchError(ours="9f3c", theirs="71aa", remedy="roll out 1.4.x")
    assert (pair.ours, pair.theirs) == ("9f3c", "71aa")
    assert str(pair).endswith("; roll out 1.4.x")
    refused = errors.BrokerRefusedError("publish", "not authorized", 0x87)
    assert (refused.action, refused.reason, refused.code) == ("publish", "not authorized", 0x87)
    assert "0x87" in str(refused)
