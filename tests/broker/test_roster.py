"""Who is alive, from births and deaths in the order of their arrival."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.bus import Message
from broker.memory import MemoryBroker, MemoryBus
from broker.presence import Announcer, Roster
from schemas.messages import PresenceState, Served
from schemas.topics import Topics
from tests.broker.helpers import presence

TOPICS = Topics("sb")
SERVED = Served(model="m", line="1.0", version="1.0.0", interface="0" * 64)
ONLINE, OFFLINE, DRAINING = PresenceState.ONLINE, PresenceState.OFFLINE, PresenceState.DRAINING


def worker(name: str = "w1", *serves: Served) -> Announcer:
    return Announcer("worker", name, serves or (SERVED,), TOPICS)


def states(roster: Roster) -> list[PresenceState]:
    return [one.state for one in roster.known()]


def test_a_birth_adds_and_the_death_of_its_session_ends() -> None:
    roster = Roster(TOPICS)
    roster.update(worker().birth("s1"))
    assert [one.id for one in roster.serving("m", "1.0")] == ["w1"]
    roster.update(worker().will("s1"))
    assert roster.serving("m", "1.0") == []
    assert states(roster) == []


def test_an_old_will_after_a_new_birth_is_ignored() -> None:
    roster = Roster(TOPICS)
    roster.update(worker().birth("s1"))
    roster.update(worker().birth("s2"))
    assert roster.update(worker().will("s1")) is None
    assert states(roster) == [ONLINE]
    assert roster.update(worker().will("s2")) is not None
    assert states(roster) == []


def test_who_died_is_back_with_the_next_birth() -> None:
    roster = Roster(TOPICS)
    for message in (worker().birth("s1"), worker().will("s1"), worker().birth("s2")):
        roster.update(message)
    assert states(roster) == [ONLINE]


def test_a_death_of_someone_unknown_changes_nothing() -> None:
    roster = Roster(TOPICS)
    roster.update(worker().will("s1"))
    assert states(roster) == []


def test_only_workers_online_that_serve_the_line_are_named() -> None:
    roster = Roster(TOPICS)
    draining = replace(worker("w2"), state=DRAINING)
    other = worker("w3", SERVED.model_copy(update={"line": "2.0"}))
    edge = Announcer("edge", "e1", (SERVED,), TOPICS)
    for one in (worker("w1"), draining, other, edge):
        roster.update(one.birth("s"))
    assert [one.id for one in roster.serving("m", "1.0")] == ["w1"]
    assert [one.id for one in roster.serving("m", "2.0")] == ["w3"]
    assert len(roster.known()) == 4


def test_a_cleared_topic_is_forgotten() -> None:
    roster = Roster(TOPICS)
    birth = worker().birth("s1")
    roster.update(birth)
    assert roster.update(replace(birth, payload=b"")) is None
    assert roster.known() == []


@pytest.mark.parametrize(
    "message",
    [
        Message("sb/p/worker/w1", b"not msgpack"),
        Message("sb/p/worker/other", worker().birth("s").payload),
        Message("sb/p/edge/w1", worker().birth("s").payload),
        Message("sb/s/worker/w1", worker().birth("s").payload),
        Message("other/p/worker/w1", worker().birth("s").payload),
        Message("sb/r/w1", worker().birth("s").payload),
        Message("sb/r/w1", b""),
    ],
)
def test_what_is_no_presence_of_its_topic_changes_nothing(message: Message) -> None:
    roster = Roster(TOPICS)
    roster.update(worker().birth("s1"))
    assert roster.update(message) is None
    assert states(roster) == [ONLINE]


async def test_a_new_state_is_announced_at_once_and_at_every_birth_after() -> None:
    broker = MemoryBroker()
    one = worker()
    async with (
        MemoryBus(broker, one) as bus,
        MemoryBus(broker) as watcher,
        watcher.subscribe("sb/p/+/+", qos=1) as subscription,
    ):
        await one.announce(bus, DRAINING)
        bus.drop()
        await one.announce(bus, PresenceState.STOPPED)
        bus.connect()
        seen = [presence((await anext(subscription)).message).state for _ in range(4)]
    assert seen == [ONLINE, DRAINING, OFFLINE, PresenceState.STOPPED]


async def test_an_id_of_one_process_leaves_nothing_behind_after_a_clean_end() -> None:
    broker = MemoryBroker()
    passing, staying = replace(worker("w-123"), ephemeral=True), worker("w2")
    async with MemoryBus(broker, passing) as bus, MemoryBus(broker, staying) as other:
        await passing.announce(bus, PresenceState.STOPPED)
        await staying.announce(other, PresenceState.STOPPED)
    async with MemoryBus(broker) as late, late.subscribe("sb/p/+/+", qos=1) as subscription:
        assert presence((await anext(subscription)).message).id == "w2"
        assert subscription.statistics().waiting == 0
