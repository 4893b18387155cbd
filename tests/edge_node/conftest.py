"""The tiny pair, exported once for all tests of this folder."""

from __future__ import annotations

import pytest

from schemas.bundle_files import Bundle


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from tests.bundles import make_bundle  # noqa: PLC0415  torch, which the tests of the heads do without

    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
