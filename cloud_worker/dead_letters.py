"""What was refused, on a topic of its own: the envelope and the reason, never the payload."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from broker.bus import Bus, Message
from cloud_worker.tally import Tally
from schemas.errors import LinkError, TooLargeError
from schemas.messages import DeadLetter, Status
from schemas.topics import Topics
from schemas.wire import encode_map

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Allowance:
    """A token bucket: `burst` at once, `rate` a second in the long run."""

    rate: float
    burst: float
    tokens: float
    refilled: float

    def take(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.refilled) * self.rate)
        self.refilled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class DeadLetters:
    """Publishes dead letters at QoS 0: at most 5 a second for each status, after 20 at once. The rest is counted."""

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        worker: str,
        tally: Tally,
        clock: Callable[[], float],
        *,
        rate: float = 5.0,
        burst: float = 20.0,
    ) -> None:
        self._bus, self._topics, self._worker, self._tally, self._clock = bus, topics, worker, tally, clock
        self._allowances = defaultdict[Status, _Allowance](lambda: _Allowance(rate, burst, burst, clock()))

    async def post(self, message: Message, status: Status, detail: str) -> None:
        """Say that a message was refused. Never raises for a broken link: that is counted as suppressed."""
        if not self._allowances[status].take(self._clock()):
            self._tally.add("dead_letters_suppressed")
            return
        letter = DeadLetter(
            worker=self._worker,
            topic=message.topic,
            size=len(message.payload),
            status=status,
            detail=detail,
        )
        topic = self._topics.dead_letter(status.name.lower().replace("_", "-"))
        try:
            await self._bus.publish(Message(topic, encode_map(letter)))
        except (LinkError, TooLargeError) as error:
            self._tally.add("dead_letters_suppressed")
            logger.debug("dead letter not published: %s", error)
        else:
            self._tally.add("dead_letters")
