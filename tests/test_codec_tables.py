"""A point whose codec needs tables, through both halves; and what each half says when a codec cannot be used."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.memory import MemoryBroker, MemoryBus
from broker.presence import Announcer
from cloud_worker.compute import ComputeThread
from cloud_worker.tails import Tail, load_tail
from cloud_worker.worker import Worker, served
from edge_node.node import EdgeNode, NodeConfig, announcer_of
from schemas.bundle import TABLES
from schemas.bundle_files import Bundle
from schemas.codecs import CODECS
from schemas.codecs.tables import pack_tables
from schemas.errors import ConfigError, DigestError
from schemas.messages import Outcome
from schemas.policy import Route, TaskRoutingPolicy
from schemas.topics import Topics
from tests.bundles import LABELS, make_bundle, samples, tiny_pair
from tests.schemas.lookup import TABLES as CONTENT
from tests.schemas.lookup import Lookup

POINT: dict[str, Any] = {"id": 0, "part": "tail", "codec": "lookup", "tables": TABLES}
CONFIG = NodeConfig("cam-1", policy=TaskRoutingPolicy(pinned=Route.HYBRID_SPLIT))


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setitem(CODECS, "lookup", Lookup)
    return make_bundle(tmp_path, files={TABLES: pack_tables(CONTENT)}, fields={"exit": None, "points": [POINT]})


@asynccontextmanager
async def working(broker: MemoryBroker, tail: Tail) -> AsyncIterator[None]:
    """A worker that is ready."""
    announcer = Announcer("worker", "w1", served([tail]), Topics())
    ready, stop = asyncio.Event(), asyncio.Event()
    async with MemoryBus(broker, announcer) as bus, asyncio.TaskGroup() as tasks:
        tasks.create_task(Worker(bus, [tail], announcer, on_ready=ready.set).run(stop), name="w1")
        await ready.wait()
        try:
            yield
        finally:
            stop.set()


async def ask(bundle: Bundle) -> Outcome:
    """The outcome of one sample with a node and a worker on a bus in memory."""
    broker, announcer = MemoryBroker(), announcer_of(bundle, CONFIG)
    with ComputeThread() as thread:
        tail = await load_tail(bundle, thread, max_batch=2, trusted=True)
        async with (
            MemoryBus(broker, announcer) as bus,
            EdgeNode(bundle, CONFIG, bus, announcer) as node,
            working(broker, tail),
        ):
            assert await node.wait_for_cloud(30)
            return await node.infer(samples(1)[0], deadline_ms=20_000.0)


async def test_a_codec_with_tables_works_in_both_halves(bundle: Bundle) -> None:
    outcome = await ask(bundle)
    assert (outcome.cloud_status, outcome.source, outcome.payload_bytes) == ("ok", "cloud", 64)
    logits = tiny_pair().logits(tiny_pair().cut(samples(1)[0]))
    assert outcome.label_name == LABELS[int(logits.argmax())]


async def test_changed_tables_stop_both_halves_at_the_start(bundle: Bundle) -> None:
    data = bytearray((bundle.path / TABLES).read_bytes())
    data[-1] ^= 1
    (bundle.path / TABLES).write_bytes(data)
    with pytest.raises(DigestError, match=TABLES):
        EdgeNode(bundle, CONFIG)
    with ComputeThread() as thread, pytest.raises(DigestError, match=TABLES):
        await load_tail(bundle, thread, max_batch=2, trusted=True)


async def test_a_library_that_a_codec_lacks_stops_both_halves_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = {"id": 0, "part": "tail", "codec": "input", "config": {"format": "zstd"}}
    bundle = make_bundle(tmp_path, fields={"points": [point]})
    monkeypatch.setitem(sys.modules, "zstandard", None)
    announcer = announcer_of(bundle, CONFIG)
    async with MemoryBus(MemoryBroker(), announcer) as bus:
        with pytest.raises(ConfigError, match="needs the package zstandard"):
            async with EdgeNode(bundle, CONFIG, bus, announcer):
                pass
    with ComputeThread() as thread, pytest.raises(ConfigError, match="needs the package zstandard"):
        await load_tail(bundle, thread, max_batch=2, trusted=True)
