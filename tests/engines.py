"""Which engines a test may count on."""

from __future__ import annotations

import os
from typing import Final

import pytest

from broker.engines import EngineName, available_engines

ENGINES: Final[tuple[EngineName, ...]] = ("mosquitto", "rumqttd")


def need(engine: EngineName) -> EngineName:
    """The engine. `make install` brings rumqttd and .ci/run mosquitto: only a bare machine may lack the latter."""
    if engine not in available_engines():
        if engine == "rumqttd" or os.environ.get("CI"):
            pytest.fail(f"{engine} is missing; run make install, or .ci/run")
        pytest.skip("mosquitto is not installed here; the same tests run on rumqttd")
    return engine
