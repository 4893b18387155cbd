"""Others on the same broker: a hostile client on the work topics, a second process of the same node id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from broker.address import BrokerAddress
from broker.bus import Message
from broker.engines import start_broker
from broker.link import Link, LinkConfig
from schemas.bundle_files import Bundle
from schemas.messages import DeadLetter, Reply, Status, Work
from schemas.topics import Topics
from schemas.wire import decode_map, decode_reply, encode_work
from tests.bundles import AFFINE_POINT
from tests.system.load import LIMIT_S, from_cloud, loaded, node_of, pipeline, start_workers

TOPICS = Topics()
STRANGER = "stranger"


@dataclass
class Stranger:
    """A client that publishes what it likes and reads what is said to it and about it."""

    link: Link
    replies: dict[bytes, Reply] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self, topic_filter: str, subscribed: asyncio.Event) -> None:
        async with self.link.subscribe(topic_filter) as subscription:
            subscribed.set()
            async for delivery in subscription:
                message = delivery.message
                if message.correlation is not None:
                    self.replies[message.correlation] = decode_reply(message.payload)
                else:
                    self.letters.append(decode_map(DeadLetter, message.payload))
                self.heard.set()

    async def until(self, replies: int, letters: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(self.replies) < replies or len(self.letters) < letters:
                self.heard.clear()
                await self.heard.wait()


@asynccontextmanager
async def stranger_on(url: str) -> AsyncIterator[Stranger]:
    async with Link(LinkConfig(BrokerAddress.parse(url), STRANGER)) as link, asyncio.TaskGroup() as tasks:
        await link.wait_connected(20)
        stranger = Stranger(link)
        listeners = []
        for topic_filter in (TOPICS.reply(STRANGER), TOPICS.dead_letter("+")):
            subscribed = asyncio.Event()
            listeners.append(tasks.create_task(stranger.listen(topic_filter, subscribed)))
            await subscribed.wait()
        yield stranger
        for listener in listeners:
            listener.cancel()


def hostile_frames(bundle: Bundle) -> dict[Status, list[bytes]]:
    """Frames that must be refused, by what the refusal says."""
    manifest = bundle.manifest
    good = encode_work(
        Work(interface=manifest.frame_digest, point=AFFINE_POINT, deadline_ms=10_000, payloads=(bytes(64),))
    )
    other = Work(interface=b"another!", point=AFFINE_POINT, deadline_ms=10_000, payloads=(bytes(64),))
    unknown = Work(interface=manifest.frame_digest, point=99, deadline_ms=10_000, payloads=(b"x",))
    cut = Work(interface=manifest.frame_digest, point=AFFINE_POINT, deadline_ms=10_000, payloads=(b"x",))
    bad = [b"", good[:-1], good[: len(good) // 2], bytes(80_000), b"\x95\x02" + good[2:], b"\xc1", encode_work(cut)]
    return {
        Status.BAD_FRAME: bad,
        Status.INTERFACE_MISMATCH: [encode_work(other)],
        Status.UNKNOWN_POINT: [encode_work(unknown)],
    }


async def test_a_hostile_client_harms_nobody_and_is_told_why(pair: Bundle) -> None:
    frames = hostile_frames(pair)
    wanted = {
        f"{status:04d}{number:04d}".encode(): (status, frame)
        for status, several in frames.items()
        for number, frame in enumerate(several)
    }
    work = TOPICS.work(pair.manifest.name, pair.manifest.line, STRANGER)
    async with start_broker() as broker, AsyncExitStack() as stack:
        await start_workers(stack, pair, broker.url, "w1")
        node = await stack.enter_async_context(node_of(pair, broker.url))
        stranger = await stack.enter_async_context(stranger_on(broker.url))
        assert await node.wait_for_cloud(20)
        async with loaded(node, deadline_ms=20_000.0) as load:
            await load.more(10, from_cloud)
            for correlation, (_, frame) in wanted.items():
                await stranger.link.publish(Message(work, frame, correlation=correlation))
            await stranger.link.publish(Message(work, b"no correlation"))
            await stranger.link.publish(Message(f"{work}x", b"\xc1", correlation=b"short"))
            await stranger.link.publish(Message(TOPICS.reply("node-1"), b"\xc1" * 99, correlation=b"a stray!"))
            await stranger.until(replies=len(wanted), letters=1)
            await load.more(20, from_cloud)
    load.check_each_ended_once_and_in_time()
    assert {(outcome.source, outcome.cloud_status) for outcome in load.outcomes} == {("cloud", "ok")}
    assert {key: reply.status for key, reply in stranger.replies.items()} == {
        key: status for key, (status, _) in wanted.items()
    }
    assert all(reply.detail for reply in stranger.replies.values())
    assert {letter.worker for letter in stranger.letters} == {"w1"}


async def test_two_processes_of_one_node_id_still_answer_everything(pair: Bundle) -> None:
    async with pipeline(pair, "w1") as (broker, _, node), loaded(node, deadline_ms=1000.0) as load:
        await load.more(10, from_cloud)
        async with node_of(pair, broker.url) as twin, loaded(twin, deadline_ms=1000.0) as twins:
            await load.more(60)
            await twins.more(20)
        await load.more(20, from_cloud)
    load.check_each_ended_once_and_in_time()
    twins.check_each_ended_once_and_in_time()
