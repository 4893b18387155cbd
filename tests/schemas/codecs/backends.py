"""Which arithmetic the codecs run on here: compiled from C, or Python."""

from __future__ import annotations

import importlib.util

import pytest

COMPILED = importlib.util.find_spec("schemas.codecs._transform") is not None


def pure_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on codecs are made as on a machine where nobody could compile."""
    monkeypatch.setenv("SPLITBUS_PURE_PYTHON", "1")
