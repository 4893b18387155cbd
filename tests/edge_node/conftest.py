"""The tiny pair, exported once for all tests of this folder."""

from __future__ import annotations

import pytest

from schemas.bundle_files import Bundle
from tests.bundles import make_bundle


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
