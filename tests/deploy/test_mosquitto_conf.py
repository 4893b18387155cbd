"""deploy/mosquitto.conf, tried on a real mosquitto; only the address and the folder for its data are other ones."""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.address import BrokerAddress
from broker.bus import Message, QoS
from broker.engines import mosquitto
from broker.engines.ports import LOOPBACK, hold_port
from broker.engines.process import Launch
from broker.engines.running import RunningBroker
from broker.link import Link, LinkConfig
from broker.packets import publish_size
from schemas.errors import TooLargeError
from schemas.wire import MAX_CONTROL_BYTES, MAX_FRAME_BYTES
from tests.deploy.commands import DEPLOY, settings

TEXT = (DEPLOY / "mosquitto.conf").read_text()
LONGEST_TOPIC = 6 * 65
needs_mosquitto = pytest.mark.skipif(not mosquitto.is_available(), reason=mosquitto.REMEDY)


def limit(option: str) -> int:
    return int(settings(TEXT.replace(" ", "="))[option])


@asynccontextmanager
async def started(folder: Path, text: str = TEXT) -> AsyncIterator[RunningBroker]:
    """A broker with that configuration; `restart` gives it a new life over the same data."""

    def launch(port: int) -> Launch:
        lines, listeners = re.subn(r"^listener 1883$", f"listener {port} {LOOPBACK}", text, flags=re.MULTILINE)
        lines, folders = re.subn(r"^(persistence_location) .*$", rf"\1 {folder}/", lines, flags=re.MULTILINE)
        assert (listeners, folders) == (1, 1)
        stay = "user root\n" if os.geteuid() == 0 else ""
        file = folder / "mosquitto.conf"
        file.write_text(stay + lines)
        return Launch((mosquitto.find() or "", "-c", str(file)))

    with hold_port() as number:
        broker = RunningBroker("mosquitto", number, launch)
        try:
            await broker.restart()
            yield broker
            await broker.stop()
        finally:
            broker.reap()


@asynccontextmanager
async def linked(broker: RunningBroker, name: str = "one") -> AsyncIterator[Link]:
    async with Link(LinkConfig(BrokerAddress.parse(broker.url), name)) as link:
        await link.wait_connected(20)
        yield link


def test_limits_are_above_what_the_wire_allows() -> None:
    for payload in (MAX_FRAME_BYTES, MAX_CONTROL_BYTES):
        message = Message("t" * LONGEST_TOPIC, bytes(payload), qos=1, correlation=bytes(64), expiry_s=1)
        assert publish_size(message) < limit("max_packet_size")
    assert limit("max_packet_size") <= 4 * MAX_FRAME_BYTES, "a stranger's packet is bounded too"


def test_nagle_is_off_and_retained_topics_are_kept() -> None:
    assert "\nset_tcp_nodelay true\n" in TEXT
    assert "\npersistence true\n" in TEXT
    assert limit("autosave_interval") <= 300


@needs_mosquitto
async def test_a_frame_of_the_largest_size_makes_a_round_trip_and_a_larger_packet_does_not(tmp_path: Path) -> None:
    async with started(tmp_path) as broker, linked(broker) as link, link.subscribe("sb/w/#", qos=1) as subscription:
        payload = os.urandom(MAX_FRAME_BYTES)
        await link.publish(Message("sb/w/m/1.0/n", payload, qos=1, correlation=b"12345678", expiry_s=5))
        delivery = await anext(aiter(subscription))
        delivery.ack()
        assert delivery.message.payload == payload
        assert delivery.message.correlation == b"12345678"
        with pytest.raises(TooLargeError):
            await link.publish(Message("sb/w/m/1.0/n", bytes(limit("max_packet_size")), qos=1))
        assert link.connected


@needs_mosquitto
async def test_what_is_retained_outlives_a_restart(tmp_path: Path) -> None:
    async with started(tmp_path) as broker:
        async with linked(broker) as link:
            await link.publish(Message("sb/m/model/desired", b"release", qos=1, retain=True))
        await broker.restart()
        async with linked(broker, "two") as link, link.subscribe("sb/m/#", qos=1) as subscription:
            delivery = await anext(aiter(subscription))
            delivery.ack()
            assert delivery.message.payload == b"release"


@needs_mosquitto
async def test_a_round_trip_at_qos_1_does_not_wait_for_delayed_acknowledgements(tmp_path: Path) -> None:
    async with started(tmp_path) as broker, linked(broker) as link, link.subscribe("echo", qos=1) as subscription:
        deliveries = aiter(subscription)
        pairs = [(await _round_trip(link, deliveries, 0), await _round_trip(link, deliveries, 1)) for _ in range(15)]
    longer = statistics.median(acknowledged - plain for plain, acknowledged in pairs)
    assert longer < 0.03, "Nagle and delayed acknowledgements make it 44 ms longer than at QoS 0, whatever the load"


async def _round_trip(link: Link, deliveries: AsyncIterator[object], qos: QoS) -> float:
    began = time.perf_counter()
    await asyncio.gather(link.publish(Message("echo", b"x", qos=qos)), _take(deliveries))
    return time.perf_counter() - began


async def _take(deliveries: AsyncIterator[object]) -> None:
    delivery = await anext(deliveries)
    delivery.ack()  # type: ignore[attr-defined]
