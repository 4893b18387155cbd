"""What the images' health check says of a process in each of its states, over a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.address import BrokerAddress
from broker.engines import RunningBroker, start_broker
from broker.health import HEALTHY, UNHEALTHY, main
from broker.link import Link, LinkConfig
from broker.presence import Announcer
from schemas.messages import PresenceState
from schemas.topics import Topics

TOPICS = Topics("here")


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningBroker]:
    async with start_broker() as running:
        monkeypatch.setenv("SPLITBUS_BROKER", running.url)
        monkeypatch.setenv("SPLITBUS_ROOT", "here")
        yield running


async def verdict(id_: str = "w-1") -> int:
    return await asyncio.to_thread(main, ["worker", id_, "--timeout", "2"])


async def announced(link: Link, announcer: Announcer, state: PresenceState) -> None:
    await link.wait_connected(5)
    await announcer.announce(link, state)


async def test_only_online_is_healthy(broker: RunningBroker) -> None:
    announcer = Announcer("worker", "w-1", (), TOPICS)
    async with Link(LinkConfig(BrokerAddress.parse(broker.url), "w-1"), announcer) as link:
        for state in PresenceState:
            await announced(link, announcer, state)
            assert await verdict() == (HEALTHY if state is PresenceState.ONLINE else UNHEALTHY), state


async def test_a_process_that_is_gone_without_a_word_is_unhealthy(
    broker: RunningBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    announcer = Announcer("worker", "w-1", (), TOPICS)
    async with Link(LinkConfig(BrokerAddress.parse(broker.url), "w-1"), announcer) as link:
        await announced(link, announcer, PresenceState.ONLINE)
        async with Link(LinkConfig(BrokerAddress.parse(broker.url), "w-1")) as usurper:
            await usurper.wait_connected(5)  # the broker cuts the first one off, and publishes its will
            assert await verdict() == UNHEALTHY
    assert "offline" in capsys.readouterr().out


async def test_a_stranger_is_unhealthy(broker: RunningBroker) -> None:
    assert broker.running
    assert await verdict("nobody") == UNHEALTHY


async def test_without_a_broker_nobody_can_tell(broker: RunningBroker, capsys: pytest.CaptureFixture[str]) -> None:
    await broker.stop()
    assert await verdict() == UNHEALTHY
    assert "cannot tell" in capsys.readouterr().out


async def test_a_name_that_is_no_topic_level_is_refused_in_words(
    broker: RunningBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert broker.running
    assert await verdict("a/#") == UNHEALTHY
    assert "topic level" in capsys.readouterr().out
