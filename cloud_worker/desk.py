"""One frame's life at a worker: checked, batched, answered, acknowledged. Nothing that arrives ends the worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from broker.bus import Bus, Delivery, Message, QoS
from cloud_worker.answered import Answered, FrameKey
from cloud_worker.batcher import Batcher, ClosedError, ExpiredError, OverloadedError
from cloud_worker.dead_letters import DeadLetters
from cloud_worker.envelope import (
    Envelope,
    LineKey,
    RefusedError,
    UnanswerableError,
    admit,
    read_envelope,
    read_work,
)
from cloud_worker.tails import Answers, Frame, Tail
from cloud_worker.tally import Tally
from schemas.errors import DecodeError, LinkError, TooLargeError
from schemas.messages import Reply, Status, Work
from schemas.topics import Topics
from schemas.wire import encode_reply

_MICRO = 1_000_000
_MAX_U32 = 0xFFFF_FFFF
_MAX_U16 = 0xFFFF

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One frame in the batcher, and the tail that finishes it."""

    tail: Tail
    frame: Frame


@dataclass(frozen=True, slots=True)
class Computed:
    """A frame's answers, and its share of what its batch took."""

    answers: Answers
    compute_s: float


FrameBatcher = Batcher[Job, Computed]


class Desk:
    """Takes deliveries, one task each. Every frame with an address gets exactly one reply, retries aside.

    The delivery is acknowledged after its reply was handed to the bus. A retry of a frame that is under way
    is acknowledged and counted, for one reply serves both; a retry of one that was answered gets the same
    reply again. Only answers are kept: what was refused is tried anew.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        tails: Mapping[LineKey, Tail],
        batcher: FrameBatcher,
        *,
        answered: Answered,
        dead_letters: DeadLetters,
        tally: Tally,
        clock: Callable[[], float],
        qos: QoS,
        max_frame_bytes: int,
    ) -> None:
        self._bus, self._topics, self._tails, self._batcher = bus, topics, tails, batcher
        self._answered, self._dead_letters, self._tally, self._clock = answered, dead_letters, tally, clock
        self._qos: QoS = qos
        self._max_frame_bytes = max_frame_bytes

    async def handle(self, delivery: Delivery) -> None:
        """See the class. Raises nothing but CancelledError, and then the delivery is not acknowledged."""
        self._tally.add("frames")
        try:
            await self._handle(delivery.message)
        except UnanswerableError as error:
            self._tally.add("unanswerable")
            await self._dead_letters.post(delivery.message, Status.BAD_FRAME, str(error))
        except Exception:
            self._tally.add("defects")
            logger.exception("a frame could not be handled; this is a defect of the worker")
        delivery.ack()

    async def _handle(self, message: Message) -> None:
        arrived = self._clock()
        envelope = read_envelope(message, self._topics)
        if envelope.foreign_response_topic:
            self._tally.add("foreign_response_topic")
        try:
            work = read_work(message.payload, self._max_frame_bytes)
            tail, frame = admit(work, envelope.line, self._tails)
        except RefusedError as refusal:
            await self._refuse(message, envelope, refusal)
            return
        deadline = arrived + _time_left_s(work, message)
        key = FrameKey.of(message.topic, envelope.correlation, work)
        known = self._answered.reply(key)
        if known is not None:
            self._tally.add("cached")
            await self._publish(envelope, known)
        elif self._answered.begin(key):
            await self._finish(message, envelope, key, Job(tail, frame), deadline)
        else:
            self._tally.add("joined")

    async def _finish(self, message: Message, envelope: Envelope, key: FrameKey, job: Job, deadline: float) -> None:
        """Run a frame that is under way for the first time, and reply."""
        kept: bytes | None = None
        try:
            reply = await self._run(job, deadline)
            kept = encode_reply(reply)
            self._tally.add("answered")
            await self._publish(envelope, kept)
        except RefusedError as refusal:
            await self._refuse(message, envelope, refusal)
        finally:
            self._answered.end(key, kept)

    async def _run(self, job: Job, deadline: float) -> Reply:
        """The reply to a frame. Raises RefusedError for everything but answers."""
        manifest, weight = job.tail.manifest, len(job.frame.payloads)
        self._tally.add("samples", weight)
        try:
            done = await self._batcher.submit(
                job, (manifest.name, manifest.line, job.frame.point.part), weight, deadline
            )
        except (OverloadedError, ClosedError) as error:
            raise RefusedError(Status.OVERLOADED, str(error)) from None
        except ExpiredError as error:
            raise RefusedError(Status.EXPIRED, str(error)) from None
        except DecodeError as error:
            raise RefusedError(Status.BAD_FRAME, f"a payload does not decode: {error}") from None
        except Exception as error:
            logger.warning("%s %s failed: %s", manifest.name, manifest.line, error, exc_info=error)
            tail = f"{manifest.name} {manifest.cloud_version}"
            msg = f"the tail of {tail} raised {type(error).__name__}; the worker's log says more"
            raise RefusedError(Status.FAILED, msg) from None
        return Reply(
            status=Status.OK,
            answers=done.result.answers,
            queue_us=_micros(done.queued_s),
            compute_us=_micros(done.result.compute_s),
            batch=min(_MAX_U16, done.batch),
        )

    async def _refuse(self, message: Message, envelope: Envelope, refusal: RefusedError) -> None:
        self._tally.refuse(refusal.status)
        detail = str(refusal)
        await self._publish(envelope, encode_reply(Reply(status=refusal.status, detail=detail)))
        await self._dead_letters.post(message, refusal.status, detail)

    async def _publish(self, envelope: Envelope, reply: bytes) -> None:
        """Hand a reply to the bus; when the link is down the reply is lost and the node's retry finds it kept.

        A reply has no expiry: nobody keeps it for a node that is away, since nodes begin every session anew.
        """
        message = Message(envelope.reply_topic, reply, self._qos, correlation=envelope.correlation)
        try:
            await self._bus.publish(message)
        except (LinkError, TooLargeError) as error:
            self._tally.add("replies_lost")
            logger.debug("reply not published: %s", error)


async def run_jobs(jobs: Sequence[Job], tally: Tally) -> list[Computed | Exception]:
    """Run one batch of one part of one model; each frame's share of the time is by its samples."""
    result = await jobs[0].tail.run(jobs[0].frame.point.part, [job.frame for job in jobs])
    tally.computed(result.compute_s)
    samples = sum(len(job.frame.payloads) for job in jobs)
    return [
        end if isinstance(end, Exception) else Computed(end, result.compute_s * len(job.frame.payloads) / samples)
        for job, end in zip(jobs, result.frames, strict=True)
    ]


def _time_left_s(work: Work, message: Message) -> float:
    """Time to the deadline. The broker takes the time that it held the message off the expiry, never off the frame."""
    stated = work.deadline_ms / 1000
    return stated if message.expiry_s is None else min(stated, float(message.expiry_s))


def _micros(seconds: float) -> int:
    return min(_MAX_U32, max(0, round(seconds * _MICRO)))
