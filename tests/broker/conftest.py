"""Engines that live as long as the test session, since starting one costs more than most tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker.engines import EngineName, RunningBroker, start_broker
from tests.engines import need


@contextmanager
def _running(engine: EngineName) -> Iterator[RunningBroker]:
    with asyncio.Runner() as runner:
        context = start_broker(need(engine))
        yield runner.run(context.__aenter__())
        runner.run(context.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[RunningBroker]:
    with _running("mosquitto") as broker:
        yield broker


@pytest.fixture(scope="session")
def rumqttd() -> Iterator[RunningBroker]:
    with _running("rumqttd") as broker:
        yield broker
