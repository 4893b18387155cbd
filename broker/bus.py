"""What every bus guarantees, whatever carries it: memory, rumqttd or mosquitto.

- **Order**: messages of one publisher on one topic reach a subscription in the order of publishing.
- **Loss**: QoS 0 is at most once. QoS 1 is at least once while the connection lasts and the subscription's
  queue has room; over a reconnect, and from a dead member of a shared subscription, frames can be lost, so
  whoever needs an answer retries end to end.
- **Acknowledgement**: a QoS 1 delivery is acknowledged to the broker only after `ack`, in order of receipt.
- **Retained**: a new subscription first gets the last retained message of each matching topic, with `retain`
  set; an empty retained payload clears the topic. A shared subscription gets no retained messages.
- **Shared**: `$share/{group}/{filter}`: each message goes to one member of the group.
- **Reconnect**: subscriptions last; after each connection they are restored before the birth is published.
- **Bounds**: a subscription holds at most `limit` deliveries; beyond that the newest is dropped, counted and
  acknowledged, since acknowledgements go in order and one that is held back would hold back all others.
- **Overlap**: the filters of one bus must not overlap; subscribing to the same filter twice is a ValueError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

QoS = Literal[0, 1]


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message, with the MQTT 5 properties that splitbus uses."""

    topic: str
    payload: bytes
    qos: QoS = 0
    retain: bool = False
    correlation: bytes | None = None
    response_topic: str | None = None
    expiry_s: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that arrived. `ack` must be called once it was dealt with; calling it again is harmless."""

    message: Message
    ack: Callable[[], None] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SubscriptionStatistics:
    """How a subscription's queue fares."""

    received: int
    dropped: int
    waiting: int


class Subscription(Protocol):
    """Deliveries of one filter, in order of receipt; the iteration ends when the context ends."""

    filter: str

    def __aiter__(self) -> AsyncIterator[Delivery]:
        """Itself."""

    async def __anext__(self) -> Delivery:
        """The next delivery, waiting for one."""

    def statistics(self) -> SubscriptionStatistics:
        """Counters since the subscription began."""


@dataclass(frozen=True, slots=True)
class BusStatistics:
    """How a connection fares since the start."""

    connects: int
    published: int
    received: int
    unroutable: int
    """Deliveries for which no subscription was waiting."""


class Bus(Protocol):
    """Publish and subscribe; see the module for what is guaranteed. Used as an async context manager."""

    @property
    def connected(self) -> bool:
        """Whether a publish would go out at this moment."""

    @property
    def session(self) -> str:
        """Stamp of the current connection, new for each; empty before the first."""

    async def wait_connected(self) -> None:
        """Return once connected. Raises BrokerRefusedError when the broker said no for good."""

    async def publish(self, message: Message) -> None:
        """Hand a message to the broker.

        At QoS 0 returns when it is written, at QoS 1 when the broker has acknowledged it. Raises
        NotConnectedError when the connection is down or goes down meanwhile, BrokerRefusedError when the
        broker answers with an error code, TooLargeError over the broker's own limit.
        """

    def subscribe(
        self, topic_filter: str, *, qos: QoS = 0, limit: int = 1024
    ) -> AbstractAsyncContextManager[Subscription]:
        """Deliveries of a filter for as long as the context lasts, through reconnects.

        Entering waits for the broker's grant when connected, and does not wait when not. Raises
        BrokerRefusedError when the broker does not grant it.
        """

    def statistics(self) -> BusStatistics:
        """Counters since the start."""
