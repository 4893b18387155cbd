"""Bundles for whole pipelines of real processes."""

from __future__ import annotations

import pytest

from schemas.bundle_files import Bundle
from tests.bundles import make_bundle


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A pair whose exit is never sure and whose tail always is, so that the cloud's answer wins where there is one."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "pair", fields={"tail_temperature": 0.001})
