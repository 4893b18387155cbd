"""What every test shares: the golden files and one hypothesis profile."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.golden.store import Golden

settings.register_profile(
    "quick", max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(  # for a night: pytest --hypothesis-profile deep
    "deep", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-golden", action="store_true", help="write golden files that are missing; none is ever changed"
    )


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(write=request.config.getoption("--write-golden"))
