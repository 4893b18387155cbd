"""Ships one sample to the cloud and brings the answer back: codec, frame, request, reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from broker.bus import Bus, QoS
from broker.presence import Roster
from broker.replies import Answered, Requester
from edge_node.breaker import Breaker
from edge_node.estimates import MOST_ATTEMPTS, Estimates, Seen
from edge_node.window import Window
from schemas.bundle import Manifest, OperatingPoint
from schemas.codecs import Codec
from schemas.errors import BrokerRefusedError, NoReplyError, TooLargeError, WireError
from schemas.messages import Answer, Reply, Status, Work
from schemas.policy import Priority
from schemas.tensor import Array
from schemas.topics import Topics
from schemas.wire import decode_reply, encode_work

_LONGEST_MS = 3_600_000
"""What a frame can say of its deadline."""
_LOAD = frozenset({"overloaded", "expired"})
"""Refusals that speak of load, not of a defect."""
_NOTHING = Reply(status=Status.FAILED)
_INLINE_BYTES = 16 * 1024
"""A cut tensor up to this size is encoded on the event loop: that takes less than the way to a thread and back."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """What became of one sample that was to be shipped; times in milliseconds, sizes in bytes."""

    status: str
    """`ok`, a worker's refusal, `timeout`, `busy` (no place in the window), `too_large`, `refused` or `bad_reply`."""
    detail: str = ""
    answer: Answer | None = None
    point: int | None = None
    """The operating point at which it was sent."""
    attempts: int = 0
    payload_bytes: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    encode_ms: float = 0.0
    wait_ms: float = 0.0
    queue_ms: float = 0.0
    compute_ms: float = 0.0
    batch: int = 0


class Uplink:
    """The way to the workers of one model line. Failures of the cloud are results here, never exceptions."""

    def __init__(
        self,
        *,
        manifest: Manifest,
        codecs: Mapping[int, Codec],
        node: str,
        topics: Topics,
        bus: Bus,
        requester: Requester,
        roster: Roster,
        estimates: Estimates,
        executor: Executor,
        qos: QoS = 0,
    ) -> None:
        """`codecs` by operating point, as `Bundle.codecs` gives them."""
        self.window = Window()
        self.breaker = Breaker()
        self._manifest = manifest
        self._topic = topics.work(manifest.name, manifest.line, node)
        self._bus, self._requester, self._roster = bus, requester, roster
        self._estimates = estimates
        self._qos: QoS = qos
        self._executor = executor
        self._codecs = codecs

    def available(self) -> bool:
        """Whether the link is up, the breaker is closed, and a live worker serves this very interface."""
        return not self.obstacle()

    def obstacle(self) -> str:
        """What keeps requests from the workers at this moment; empty when nothing does."""
        if obstacle := self._unreachable():
            return obstacle
        return "" if self.breaker.closed else f"the breaker is open after {self.breaker.failures} failures in a row"

    def admits_probe(self) -> bool:
        """Whether a request may go out as a probe: nothing but the breaker's time is in the way."""
        return not self._unreachable() and self.breaker.allows(asyncio.get_running_loop().time())

    def _unreachable(self) -> str:
        manifest = self._manifest
        if not self._bus.connected:
            return "the link to the broker is down"
        if not any(
            served.interface == manifest.interface
            for presence in self._roster.serving(manifest.name, manifest.line)
            for served in presence.serves
        ):
            return f"no live worker serves {manifest.name} {manifest.line} with this interface"
        return ""

    def counters(self) -> dict[str, int]:
        """What went wrong on the way since the start, by name; each is always present."""
        requests, link = self._requester.statistics(), self._bus.statistics()
        return {
            "retried": requests.retried,
            "unanswered": requests.unanswered,
            "late_replies": requests.late,
            "duplicate_replies": requests.duplicate,
            "window_refused": self.window.refused,
            "breaker_opened": self.breaker.opened,
            "link_reconnects": max(0, link.connects - 1),
            "unroutable": link.unroutable,
        }

    def gauges(self) -> dict[str, float]:
        """Frames in flight, and how many may be."""
        return {"in_flight": float(self.window.in_flight), "window": self.window.size}

    async def ship(
        self,
        point: OperatingPoint,
        array: Array,
        deadline: float,
        priority: Priority = Priority.NORMAL,
        most_attempts: int = MOST_ATTEMPTS,
    ) -> Shipment:
        """Encode, in `executor` when it may take long, send and wait for the reply.

        `deadline` is a time of the running loop's clock. The frame is sent at most `most_attempts` times.
        """
        if not self.window.try_enter(priority):
            return Shipment("busy", f"{self.window.in_flight} frames are in flight already")
        if not self.breaker.try_enter(asyncio.get_running_loop().time()):
            self.window.leave(ok=None)
            return Shipment("busy", "the breaker is open, and its one probe is under way")
        shipment = Shipment("cancelled")
        try:
            shipment = await self._ship(point, array, deadline, most_attempts)
        finally:
            self._learn(point, shipment)
        return shipment

    async def warm_up(self) -> None:
        """Encode once at every operating point, so that no request pays for what a codec loads on first use."""
        loop = asyncio.get_running_loop()
        for point in self._manifest.points:
            spec = self._manifest.spec_of(point)
            zeros = np.zeros(spec.shape, spec.dtype)
            await loop.run_in_executor(self._executor, self._encode, point, zeros)

    def _encode(self, point: OperatingPoint, array: Array) -> tuple[bytes, float]:
        started = time.perf_counter()
        payload = self._codecs[point.id].encode(array)
        return payload, (time.perf_counter() - started) * 1e3

    async def _ship(self, point: OperatingPoint, array: Array, deadline: float, most_attempts: int) -> Shipment:
        payload, encode_ms = await self._encoded(point, array)
        left_ms = int(min(_LONGEST_MS, (deadline - asyncio.get_running_loop().time()) * 1e3))
        if left_ms < 1:
            return Shipment("timeout", "no time was left to ship it", encode_ms=encode_ms)
        work = Work(interface=self._manifest.frame_digest, point=point.id, deadline_ms=left_ms, payloads=(payload,))
        shipment = replace(await self._ask(work, deadline, most_attempts), encode_ms=encode_ms)
        return replace(shipment, point=point.id, payload_bytes=len(payload)) if shipment.attempts else shipment

    async def _encoded(self, point: OperatingPoint, array: Array) -> tuple[bytes, float]:
        if point.part == "tail" and array.nbytes <= _INLINE_BYTES:
            return self._encode(point, array)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._encode, point, array)

    async def _ask(self, work: Work, deadline: float, most_attempts: int) -> Shipment:
        """Send a frame until it is answered; what comes back, or why nothing did."""
        try:
            answered = await self._requester.ask(
                self._topic, encode_work(work), deadline=deadline, qos=self._qos, most_attempts=most_attempts
            )
        except TooLargeError as error:
            return Shipment("too_large", str(error))
        except BrokerRefusedError as error:
            return Shipment("refused", str(error))
        except NoReplyError as error:
            wait_ms = error.waited_s * 1e3
            return Shipment("timeout", str(error), attempts=error.attempts, bytes_up=error.bytes_up, wait_ms=wait_ms)
        return _judge(answered, labels=len(self._manifest.labels))

    def _learn(self, point: OperatingPoint, shipment: Shipment) -> None:
        """Give the places in window and breaker back, and remember how it went; what was not sent says nothing."""
        if shipment.answer is not None:
            self.window.leave(ok=True)
            self.breaker.succeeded()
            self._estimates.answered(point, _seen(shipment))
        elif shipment.attempts == 0 or shipment.status in _LOAD:
            self.window.leave(ok=False if shipment.attempts else None)
            self.breaker.left()
        else:
            if shipment.status == "timeout":
                self._estimates.unanswered(point, shipment.wait_ms)
            self.window.leave(ok=False if shipment.status == "timeout" else None)
            self.breaker.failed(asyncio.get_running_loop().time())


def _seen(shipment: Shipment) -> Seen:
    return Seen(
        payload_bytes=shipment.payload_bytes,
        bytes_up=shipment.bytes_up,
        bytes_down=shipment.bytes_down,
        attempts=shipment.attempts,
        encode_ms=shipment.encode_ms,
        wait_ms=shipment.wait_ms,
        queue_ms=shipment.queue_ms,
        compute_ms=shipment.compute_ms,
    )


def _judge(answered: Answered, labels: int) -> Shipment:
    """A reply as a result: `ok` exactly when it has one answer with a label that the model has."""
    status, detail, reply = _read(answered.message.payload, labels)
    return Shipment(
        status=status,
        detail=detail,
        answer=reply.answers[0] if status == "ok" else None,
        attempts=answered.attempts,
        bytes_up=answered.bytes_up,
        bytes_down=answered.bytes_down,
        wait_ms=answered.waited_s * 1e3,
        queue_ms=reply.queue_us / 1e3,
        compute_ms=reply.compute_us / 1e3,
        batch=reply.batch,
    )


def _read(payload: bytes, labels: int) -> tuple[str, str, Reply]:
    """Status, detail and content of a reply."""
    try:
        reply = decode_reply(payload)
    except WireError as error:
        return "bad_reply", str(error), _NOTHING
    if reply.status is Status.OK and len(reply.answers) != 1:
        return "bad_reply", f"{len(reply.answers)} answers to one sample", _NOTHING
    if reply.status is Status.OK and reply.answers[0].label >= labels:
        return "bad_reply", f"label {reply.answers[0].label} of a model with {labels}", _NOTHING
    return reply.status.name.lower(), reply.detail, reply
