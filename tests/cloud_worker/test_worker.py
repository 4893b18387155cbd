"""What a worker says to frames, over a bus in memory and in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from broker.bus import Message
from cloud_worker.settings import WorkerSettings
from schemas.messages import Answer, Status, Work
from schemas.wire import MAX_FRAME_BYTES, encode_work
from tests.bundles import AFFINE_POINT, INPUT_POINT, tiny_manifest
from tests.cloud_worker.stage import BAD, GOOD, NODE, TOPICS, GateTail, Stage, staged
from tests.virtual_time import run_virtually


def work_of(stage: Stage, **changes: object) -> bytes:
    fields = {"interface": stage.tail.manifest.frame_digest, "point": 1, "deadline_ms": 1000, "payloads": (GOOD,)}
    return encode_work(Work.model_validate({**fields, **changes}))


def test_a_frame_is_answered_on_its_nodes_topic_and_then_acknowledged() -> None:
    async def main() -> None:
        async with staged() as stage:
            reply = await stage.ask(stage.message(b"12345678", b"a", b"bb", deadline_ms=2500))
            assert reply.status is Status.OK
            assert reply.answers == (Answer(label=1, confidence=0.5), Answer(label=2, confidence=0.5))
            assert (reply.batch, reply.compute_us, reply.detail) == (2, 4000, "")
            message = stage.replies[0]
            assert (message.topic, message.correlation, message.qos) == (TOPICS.reply(NODE), b"12345678", 0)
            assert message.expiry_s is None
            await stage.settle()
            assert stage.bus.log == [("reply", b"12345678"), ("ack", b"12345678")]

    run_virtually(main())


def test_bursts_share_a_batch_by_their_samples() -> None:
    async def main() -> None:
        async with staged(WorkerSettings(max_batch=4)) as stage:
            stage.tail.gate.clear()
            sizes = [1, 3, 1, 2, 1, 64]
            for index, size in enumerate(sizes):
                await stage.node.publish(stage.message(b"%08d" % index, *[b"x"] * size))
            await stage.tail.started.wait()
            stage.tail.gate.set()
            await stage.until(lambda: len(stage.replies) == len(sizes))
            assert [sum(len(f.payloads) for f in batch) for batch in stage.tail.batches] == [1, 4, 3, 64]
            assert [len(stage.answered()[b"%08d" % index].answers) for index in range(len(sizes))] == sizes
            assert [stage.answered()[b"%08d" % index].compute_us for index in (0, 1, 2)] == [4000, 3000, 1000]

    run_virtually(main())


def test_parts_never_share_a_batch() -> None:
    async def main() -> None:
        async with staged() as stage:
            for index, point in enumerate([AFFINE_POINT, INPUT_POINT, 1, INPUT_POINT]):
                await stage.node.publish(stage.wrap(work_of(stage, point=point), b"%08d" % index))
            await stage.until(lambda: len(stage.replies) == 4)
            assert {frozenset(f.point.part for f in batch) for batch in stage.tail.batches} == {
                frozenset({"tail"}),
                frozenset({"full"}),
            }

    run_virtually(main())


def test_a_response_topic_is_honoured_only_under_the_nodes_own() -> None:
    async def main() -> None:
        async with staged() as stage:
            own = TOPICS.reply(NODE)
            for wanted, used in [
                (own, own),
                (f"{own}/thread-2", f"{own}/thread-2"),
                (TOPICS.reply("cam-2"), own),
                (f"{own}0", own),
                (f"{own}/#", own),
                (f"{own}/+/x", own),
                (f"{own}/\x00", own),
                ("$SYS/x", own),
            ]:
                await stage.ask(replace(stage.message(), response_topic=wanted))
                assert stage.replies[-1].topic == used
            assert stage.worker.counters()["foreign_response_topic"] == 6

    run_virtually(main())


def test_another_interface_never_reaches_the_tail() -> None:
    async def main() -> None:
        async with staged() as stage:
            theirs = tiny_manifest(seed=1).frame_digest
            reply = await stage.ask(stage.wrap(work_of(stage, interface=theirs)))
            assert reply.status is Status.INTERFACE_MISMATCH
            assert theirs.hex() in reply.detail
            assert stage.tail.manifest.frame_digest.hex() in reply.detail
            assert "roll out" in reply.detail
            assert not stage.tail.batches
            assert stage.worker.counters()["refused_interface_mismatch"] == 1

    run_virtually(main())


def test_an_unknown_point_is_named_with_those_that_there_are() -> None:
    async def main() -> None:
        async with staged() as stage:
            reply = await stage.ask(stage.wrap(work_of(stage, point=9)))
            assert reply.status is Status.UNKNOWN_POINT
            assert "point 9; it has 0, 1, 2" in reply.detail

    run_virtually(main())


def test_bad_frames_are_refused_and_lose_nothing_else() -> None:
    async def main() -> None:
        async with staged() as stage:
            good = stage.message().payload
            other_version = msgpack.packb([2, *msgpack.unpackb(good)[1:]])
            hostile = [good[:cut] for cut in range(len(good))]
            hostile += [other_version, b"\xc1", bytes(MAX_FRAME_BYTES + 1), good + b"\x00"]
            for index, payload in enumerate(hostile):
                reply = await stage.ask(stage.wrap(payload, b"%08d" % index))
                assert reply.status is Status.BAD_FRAME
                assert reply.detail
            assert (await stage.ask(stage.message(b"the-good"))).status is Status.OK
            counters = stage.worker.counters()
            assert counters["refused_bad_frame"] == len(hostile)
            assert (counters["defects"], counters["answered"]) == (0, 1)

    run_virtually(main())


def test_a_payload_that_does_not_decode_fails_alone() -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.tail.gate.clear()
            for index, payload in enumerate([GOOD, BAD, GOOD]):
                await stage.node.publish(stage.message(b"%08d" % index, payload))
            await stage.tail.started.wait()
            stage.tail.gate.set()
            await stage.until(lambda: len(stage.replies) == 3)
            statuses = [reply.status for _, reply in sorted(stage.answered().items())]
            assert statuses == [Status.OK, Status.BAD_FRAME, Status.OK]

    run_virtually(main())


def test_a_tail_that_raises_says_nothing_of_the_data() -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.tail.failure = RuntimeError("secret pixels")
            reply = await stage.ask(stage.message(b"00000001"))
            assert reply.status is Status.FAILED
            assert "RuntimeError" in reply.detail
            await stage.until(lambda: bool(stage.letters))
            assert "secret" not in reply.detail + stage.letters[0][1].detail
            stage.tail.failure = None
            assert (await stage.ask(stage.message(b"00000001"))).status is Status.OK, "a refusal is not kept"

    run_virtually(main())


def test_every_refusal_is_a_dead_letter_without_the_payload() -> None:
    async def main() -> None:
        async with staged() as stage:
            payload = stage.message(b"x", b"private-bytes").payload[:-1]
            await stage.ask(stage.wrap(payload))
            work = [1, stage.tail.manifest.frame_digest, 1, b"private-bytes", [b"private-bytes"]]
            await stage.ask(stage.wrap(msgpack.packb(work)))
            await stage.until(lambda: len(stage.letters) == 2)
            for topic, letter in stage.letters:
                assert topic == TOPICS.dead_letter("bad-frame")
                assert (letter.worker, letter.status) == ("w1", Status.BAD_FRAME)
                assert letter.topic == stage.wrap(b"").topic
                assert "private" not in letter.detail
            assert stage.letters[0][1].size == len(payload)

    run_virtually(main())


def test_what_cannot_be_answered_is_a_dead_letter_only() -> None:
    async def main() -> None:
        async with staged() as stage:
            good = stage.message(None)
            for message in [good, replace(good, correlation=b""), replace(good, correlation=b"x" * 65)]:
                await stage.node.publish(message)
            bad_node = TOPICS.work("tiny", "1.0", "no node")
            await stage.node.publish(Message(bad_node, good.payload, correlation=b"1"))
            await stage.until(lambda: len(stage.letters) == 4)
            assert not stage.replies
            assert stage.worker.counters()["unanswerable"] == 4
            assert [what for what, _ in stage.bus.log] == ["ack"] * 4

    run_virtually(main())


def test_dead_letters_are_limited_by_status() -> None:
    async def main() -> None:
        async with staged() as stage:
            for index in range(100):
                await stage.ask(stage.wrap(b"", b"%08d" % index))
            await stage.ask(stage.wrap(work_of(stage, point=9)))
            await stage.settle()
            counters = stage.worker.counters()
            assert counters["dead_letters"] == len(stage.letters) == 21
            assert counters["dead_letters_suppressed"] == 80
            await asyncio.sleep(1)
            await stage.ask(stage.wrap(b""))
            await stage.until(lambda: len(stage.letters) == 22)

    run_virtually(main())


def test_a_full_queue_refuses_at_once() -> None:
    async def main() -> None:
        async with staged(WorkerSettings(max_batch=1, max_queue=2)) as stage:
            stage.tail.gate.clear()
            await stage.node.publish(stage.message(b"00000000"))
            await stage.tail.started.wait()
            for index in (1, 2):
                await stage.node.publish(stage.message(b"%08d" % index))
            reply = await stage.ask(stage.message(b"00000003"))
            assert reply.status is Status.OVERLOADED
            assert "the bound is 2" in reply.detail
            stage.tail.gate.set()
            await stage.until(lambda: len(stage.replies) == 4)
            assert (await stage.ask(stage.message(b"00000003"))).status is Status.OK

    run_virtually(main())


def test_expired_work_is_answered_without_being_run() -> None:
    async def main() -> None:
        async with staged(WorkerSettings(max_batch=1)) as stage:
            stage.tail.gate.clear()
            await stage.node.publish(stage.message(b"00000000"))
            await stage.node.publish(stage.message(b"00000001", deadline_ms=50))
            late = replace(stage.message(b"00000002"), expiry_s=0)
            await stage.node.publish(late)
            await asyncio.sleep(0.2)
            stage.tail.gate.set()
            await stage.until(lambda: len(stage.replies) == 3)
            statuses = [reply.status for _, reply in sorted(stage.answered().items())]
            assert statuses == [Status.OK, Status.EXPIRED, Status.EXPIRED]
            assert len(stage.tail.batches) == 1

    run_virtually(main())


def test_a_retry_is_joined_while_its_frame_runs_and_answered_from_memory_after() -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.tail.gate.clear()
            frame = stage.message(b"00000001", deadline_ms=9000)
            await stage.node.publish(frame)
            await stage.tail.started.wait()
            await stage.node.publish(stage.message(b"00000001", deadline_ms=4000))
            await stage.settle()
            stage.tail.gate.set()
            await stage.until(lambda: len(stage.replies) == 1)
            await stage.ask(stage.message(b"00000001", deadline_ms=2000))
            assert stage.replies[0].payload == stage.replies[1].payload
            counters = stage.worker.counters()
            assert (len(stage.tail.batches), counters["joined"], counters["cached"]) == (1, 1, 1)
            assert [what for what, _ in stage.bus.log].count("reply") == 2

    run_virtually(main())


def test_the_same_correlation_with_other_content_is_another_request() -> None:
    async def main() -> None:
        async with staged() as stage:
            assert (await stage.ask(stage.message(b"00000001", b"1"))).answers[0].label == 1
            assert (await stage.ask(stage.message(b"00000001", b"22"))).answers[0].label == 2

    run_virtually(main())


def test_replies_are_kept_for_a_bounded_time_and_number() -> None:
    async def main() -> None:
        async with staged(WorkerSettings(replies_kept=2, replies_kept_s=10.0)) as stage:
            for index in (0, 1, 2):
                await stage.ask(stage.message(b"%08d" % index))
            await stage.ask(stage.message(b"00000000"))
            assert stage.worker.counters()["cached"] == 0
            await stage.ask(stage.message(b"00000000"))
            assert stage.worker.counters()["cached"] == 1
            await asyncio.sleep(11)
            await stage.ask(stage.message(b"00000000"))
            assert stage.worker.counters()["cached"] == 1

    run_virtually(main())


def test_a_reply_that_the_link_lost_is_there_for_the_retry() -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.tail.gate.clear()
            await stage.node.publish(stage.message())
            await stage.tail.started.wait()
            stage.bus.drop()
            stage.tail.gate.set()
            await stage.settle()
            assert stage.worker.counters()["replies_lost"] == 1
            stage.bus.connect()
            assert (await stage.ask(stage.message())).status is Status.OK
            assert len(stage.tail.batches) == 1

    run_virtually(main())


def test_stats_tell_the_same_as_the_counters() -> None:
    async def main() -> None:
        async with staged(WorkerSettings(stats_every_s=5.0)) as stage:
            for index in range(3):
                await stage.ask(stage.message(b"%08d" % index, b"x", b"y"))
            await stage.until(lambda: bool(stage.stats))
            stats = stage.stats[0]
            assert (stats.kind, stats.id, round(stats.uptime_s, 3)) == ("worker", "w1", 5.0)
            assert stats.counters.items() >= stage.worker.counters().items()
            assert {"answered": 3, "samples": 6, "batches": 3, "batch_le_1": 0, "batch_le_2": 3}.items() <= (
                stats.counters.items()
            )
            assert stats.gauges.keys() == {"queued", "queued_samples", "running", "busy"}
            await stage.until(lambda: len(stage.stats) == 2)

    run_virtually(main())


hostile_messages = st.builds(
    Message,
    st.one_of(
        st.just(TOPICS.work("tiny", "1.0", NODE)),
        st.text(st.characters(exclude_characters="+#/"), max_size=8).map(lambda node: f"sb/w/tiny/1.0/{node}"),
    ),
    st.binary(max_size=64),
    correlation=st.one_of(st.none(), st.binary(max_size=80)),
    response_topic=st.one_of(st.none(), st.text(max_size=20)),
    expiry_s=st.one_of(st.none(), st.integers(0, 1 << 32)),
)


@given(st.lists(hostile_messages, max_size=6))
def test_it_lives_through_any_input(messages: list[Message]) -> None:
    async def main() -> None:
        async with staged(tail=GateTail()) as stage:
            for message in messages:
                await stage.node.publish(message)
            assert (await stage.ask(stage.message(b"the-good"))).status in {Status.OK, Status.BAD_FRAME}
            await stage.settle()
            assert stage.answered()[b"the-good"].status is Status.OK
            assert stage.worker.counters()["defects"] == 0
            assert stage.worker.counters()["frames"] == len(messages) + 1

    run_virtually(main())
