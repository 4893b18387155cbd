"""Which frames are being finished, and what was said to those that are: a retry is never computed twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from schemas.messages import Work


@dataclass(frozen=True, slots=True)
class FrameKey:
    """What makes two deliveries one request: the sender's topic and correlation, and equal content.

    The content is part of it because a node that was restarted may begin its correlations anew.
    """

    topic: str
    correlation: bytes
    content: Hashable

    @classmethod
    def of(cls, topic: str, correlation: bytes, work: Work) -> FrameKey:
        """The key of a frame; the time left is no part of it, since a retry has less."""
        return cls(topic, correlation, hash((work.interface, work.point, work.payloads)))


class Answered:
    """Frames under way, and encoded replies of finished ones: the last `limit`, each for `age_s` seconds."""

    def __init__(self, *, limit: int, age_s: float, clock: Callable[[], float]) -> None:
        self._limit, self._age_s, self._clock = limit, age_s, clock
        self._running: set[FrameKey] = set()
        self._replies: OrderedDict[FrameKey, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._replies)

    def begin(self, key: FrameKey) -> bool:
        """Note a frame as under way; False when it is already."""
        if key in self._running:
            return False
        self._running.add(key)
        return True

    def end(self, key: FrameKey, reply: bytes | None) -> None:
        """The frame is under way no more; None when its reply is not worth keeping, so that a retry is tried anew."""
        self._running.discard(key)
        if reply is not None:
            self._replies[key] = (self._clock(), reply)
            self._replies.move_to_end(key)
        self._forget_old()

    def reply(self, key: FrameKey) -> bytes | None:
        """The reply to an equal frame that was finished, or None."""
        self._forget_old()
        found = self._replies.get(key)
        return None if found is None else found[1]

    def _forget_old(self) -> None:
        """Replies are in the order of their age, so only the oldest need a look."""
        oldest = self._clock() - self._age_s
        while self._replies and (len(self._replies) > self._limit or next(iter(self._replies.values()))[0] < oldest):
            self._replies.popitem(last=False)
