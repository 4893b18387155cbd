"""Acknowledgements in order of receipt (MQTT 5.0, section 4.6), whatever order the work is finished in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class AckOrder:
    """Holds an acknowledgement back until all earlier ones are due.

    rumqttd disconnects a client that acknowledges out of order.
    """

    def __init__(self, send: Callable[[int], object]) -> None:
        self._send = send
        self._expected: deque[_Due] = deque()
        self._closed = False

    def expect(self, packet_id: int) -> Callable[[], None]:
        """Note a delivery; the function returned acknowledges it. Calling it twice is harmless."""
        due = _Due(packet_id)
        self._expected.append(due)

        def ack() -> None:
            due.done = True
            self._flush()

        return ack

    def close(self) -> None:
        """Forget all: the connection they belong to is over."""
        self._closed = True
        self._expected.clear()

    def _flush(self) -> None:
        while not self._closed and self._expected and self._expected[0].done:
            self._send(self._expected.popleft().packet_id)


class _Due:
    __slots__ = ("done", "packet_id")

    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id
        self.done = False
