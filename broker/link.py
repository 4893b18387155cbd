"""The bus over a real broker, through aiomqtt; the only module that imports it.

aiomqtt 2.5 acknowledges QoS 1 on arrival, drops what its queue does not hold and throws PUBACK reason codes
away. So this module reaches into the paho client underneath: manual acknowledgement, its own `on_message`
and `on_publish`, and a write at once instead of in the loop's next turn (which needs its own registration of
writers too: aiomqtt registers them a turn late, after such a write, and would spin). `REACH` names every
private attribute that it uses; a test fails when a release of aiomqtt renames one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from broker.acks import AckOrder
from broker.address import BrokerAddress
from broker.backoff import Backoff
from broker.bus import BusStatistics, Delivery, Message, QoS, Subscription
from broker.inbox import Inbox, refuse_repeat
from broker.matching import matches, split_share
from broker.packets import publish_size
from broker.presence import Announcer
from schemas.errors import BrokerRefusedError, BrokerUnavailableError, LinkError, NotConnectedError, TooLargeError

REACH: Final = ("_client", "_disconnected")
_FATAL_CODES: Final = frozenset({0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""CONNACK codes that trying again does not cure: malformed, protocol, version, id, password, rights, ban."""
_FAILURE: Final = 0x80
_NODELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """How to reach the broker."""

    address: BrokerAddress
    client_id: str
    keepalive_s: int = 15
    timeout_s: float = 5.0
    """Longest wait for a CONNACK, a SUBACK or a PUBACK."""
    receive_maximum: int = 64
    """Most unacknowledged QoS 1 deliveries that the broker may have under way to us."""
    backoff_cap_s: float = 30.0


class Link:
    """A Bus over one MQTT 5 connection that is restored for as long as the context lasts.

    Entering does not wait for the broker; `wait_connected` does.
    """

    def __init__(self, config: LinkConfig, announcer: Announcer | None = None) -> None:
        self._config = config
        self._announcer = announcer
        self._inboxes: dict[str, tuple[Inbox, QoS]] = {}
        self._connection: _Connection | None = None
        self._up = asyncio.Event()
        self._settled = asyncio.Event()
        self._fatal: LinkError | None = None
        self._last_error = "no attempt has ended yet"
        self._task: asyncio.Task[None] | None = None
        self._session = ""
        self._connects = self._published = self._received = self._unroutable = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep_connected(), name=f"link {self._config.client_id}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Say DISCONNECT, so that the broker does not publish the will, and close."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for inbox, _ in self._inboxes.values():
            inbox.close()

    @property
    def connected(self) -> bool:
        """Whether a publish would go out at this moment."""
        return self._up.is_set()

    @property
    def session(self) -> str:
        """Stamp of the current connection; empty before the first."""
        return self._session

    async def wait_connected(self, timeout_s: float | None = None) -> None:
        """Return once connected.

        Raises BrokerRefusedError when the broker said no for good, BrokerUnavailableError after `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self.connected:
                    self._settled.clear()
                    if self._fatal is not None:
                        raise self._fatal
                    await self._settled.wait()
        except TimeoutError:
            msg = (
                f"no connection to {self._config.address} within {timeout_s:g} s ({self._last_error}); "
                "start a broker there, or name another with --broker"
            )
            raise BrokerUnavailableError(msg) from None

    async def publish(self, message: Message) -> None:
        """Hand a message to the broker; see Bus.publish. Raises TooLargeError over the broker's own limit."""
        connection = self._connection
        if connection is None or not self.connected:
            msg = f"not connected to {self._config.address}; the link is trying to come back"
            raise NotConnectedError(msg)
        self._published += 1
        await connection.publish(message)

    @asynccontextmanager
    async def subscribe(self, topic_filter: str, *, qos: QoS = 0, limit: int = 1024) -> AsyncIterator[Subscription]:
        """Deliveries of a filter for as long as the context lasts; see Bus.subscribe."""
        refuse_repeat(topic_filter, self._inboxes)
        inbox = Inbox(topic_filter, limit)
        self._inboxes[topic_filter] = (inbox, qos)
        try:
            if self.connected and self._connection is not None:
                await self._connection.subscribe(topic_filter, qos)
            yield inbox
        finally:
            del self._inboxes[topic_filter]
            inbox.close()
            if self.connected and self._connection is not None:
                await self._connection.unsubscribe(topic_filter)

    def statistics(self) -> BusStatistics:
        """Counters since the start."""
        return BusStatistics(self._connects, self._published, self._received, self._unroutable)

    def route(self, message: Message, ack: _Ack) -> None:
        """Put one delivery into the inbox of every subscription that it matches."""
        self._received += 1
        taken = False
        for inbox, _ in self._inboxes.values():
            if matches(split_share(inbox.filter)[1], message.topic):
                taken = inbox.put(Delivery(message, ack)) or taken
        if not taken:
            self._unroutable += 1
            ack()

    async def _keep_connected(self) -> None:
        backoff = Backoff(cap_s=self._config.backoff_cap_s)
        while True:
            try:
                await self._one_connection(backoff)
            except aiomqtt.exceptions.MqttConnectError as error:
                self._note_refusal(error)
            except (aiomqtt.MqttError, LinkError, OSError) as error:
                self._last_error = str(error)
            self._settled.set()
            delay = backoff.next()
            logger.info("%s: %s; next attempt in %.1f s", self._config.address, self._last_error, delay)
            await asyncio.sleep(delay)

    def _note_refusal(self, error: aiomqtt.exceptions.MqttConnectError) -> None:
        code = error.rc if isinstance(error.rc, int) else error.rc.value
        self._last_error = str(error)
        if code in _FATAL_CODES and not self._connects:
            self._fatal = BrokerRefusedError(f"accept {self._config.client_id!r}", str(error.rc), code)

    async def _one_connection(self, backoff: Backoff) -> None:
        """Connect, restore, announce, and stay until the connection breaks."""
        session = secrets.token_hex(4)
        async with self._client(session) as client:
            connection = _Connection(client, self, self._config.timeout_s)
            try:
                for topic_filter, (_, qos) in list(self._inboxes.items()):
                    await connection.subscribe(topic_filter, qos)
                self._session = session
                if self._announcer is not None:
                    await connection.publish(self._announcer.birth(session))
                self._connection = connection
                self._connects += 1
                self._up.set()
                self._settled.set()
                backoff.reset()
                self._last_error = await connection.lost()
            finally:
                self._up.clear()
                self._connection = None
                connection.close()

    def _client(self, session: str) -> aiomqtt.Client:
        config, address = self._config, self._config.address
        properties = Properties(PacketTypes.CONNECT)
        properties.ReceiveMaximum = config.receive_maximum
        will = None
        if self._announcer is not None:
            last = self._announcer.will(session)
            will = aiomqtt.Will(last.topic, last.payload, last.qos, last.retain)
        return aiomqtt.Client(
            address.host,
            address.port,
            username=address.username,
            password=address.password,
            identifier=config.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=will,
            keepalive=config.keepalive_s,
            timeout=config.timeout_s,
            clean_start=True,
            properties=properties,
            tls_context=ssl.create_default_context() if address.tls else None,
            socket_options=[_NODELAY],
            max_inflight_messages=1024,
        )


class _Connection:
    """One aiomqtt client from CONNACK to the end, with the paho client underneath taken over."""

    def __init__(self, client: aiomqtt.Client, link: Link, timeout_s: float) -> None:
        self._client = client
        self._paho: Any = client._client  # noqa: SLF001 - see REACH
        self._link = link
        self._timeout_s = timeout_s
        self._pending: dict[int, asyncio.Future[ReasonCode]] = {}
        self._acks = AckOrder(lambda mid: self._paho.ack(mid, 1))
        self._paho.manual_ack_set(on=True)
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_publish
        self._paho.on_socket_register_write = self._want_write
        self._paho.on_socket_unregister_write = self._wrote_all
        client.pending_calls_threshold = 1 << 30

    async def publish(self, message: Message) -> None:
        """Write a PUBLISH at once; wait for its PUBACK at QoS 1."""
        info = self._paho.publish(
            message.topic, message.payload, message.qos, message.retain, _publish_properties(message)
        )
        if info.rc != MQTT_ERR_SUCCESS:
            msg = f"the connection broke while publishing to {message.topic} (paho error {info.rc})"
            raise NotConnectedError(msg)
        future = asyncio.get_running_loop().create_future()
        self._pending[info.mid] = future
        try:
            self._paho.loop_write()
            async with asyncio.timeout(self._timeout_s):
                code = await future
        except TimeoutError:
            msg = f"the broker did not take a message to {message.topic} within {self._timeout_s:g} s"
            raise NotConnectedError(msg) from None
        finally:
            self._pending.pop(info.mid, None)
        if code.value >= _FAILURE:
            raise BrokerRefusedError(f"take a message to {message.topic}", str(code), code.value)

    async def subscribe(self, topic_filter: str, qos: QoS) -> None:
        """Subscribe and read the reason code. Raises BrokerRefusedError when it is not granted."""
        codes = await self._translated(self._client.subscribe(topic_filter, qos=qos))
        for code in codes:
            value = code if isinstance(code, int) else code.value
            if value >= _FAILURE:
                raise BrokerRefusedError(f"subscribe {topic_filter}", str(code), value)

    async def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe; a connection that breaks meanwhile has done it too."""
        with suppress(NotConnectedError):
            await self._translated(self._client.unsubscribe(topic_filter))

    async def lost(self) -> str:
        """Wait until the connection is over; the reason in words."""
        disconnected: asyncio.Future[None] = self._client._disconnected  # noqa: SLF001 - see REACH
        await asyncio.wait({disconnected})
        error = disconnected.exception()
        return f"connection lost: {error}" if error else "connection closed"

    def close(self) -> None:
        """Fail what waits for an acknowledgement that can no longer come."""
        self._acks.close()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(NotConnectedError("the connection broke before the broker acknowledged"))

    @staticmethod
    async def _translated(call: Any) -> Any:  # noqa: ANN401 - whatever aiomqtt returns
        try:
            return await call
        except aiomqtt.MqttError as error:
            raise NotConnectedError(str(error)) from None

    def _on_message(self, _paho: object, _userdata: object, raw: MQTTMessage) -> None:
        properties = raw.properties
        message = Message(
            topic=raw.topic,
            payload=bytes(raw.payload),
            qos=1 if raw.qos else 0,
            retain=raw.retain,
            correlation=getattr(properties, "CorrelationData", None),
            response_topic=getattr(properties, "ResponseTopic", None),
            expiry_s=getattr(properties, "MessageExpiryInterval", None),
        )
        self._link.route(message, self._acks.expect(raw.mid) if raw.qos else _no_ack)

    def _want_write(self, _paho: object, _userdata: object, sock: socket.socket) -> None:
        asyncio.get_running_loop().add_writer(sock.fileno(), self._write)

    @staticmethod
    def _wrote_all(_paho: object, _userdata: object, sock: socket.socket) -> None:
        asyncio.get_running_loop().remove_writer(sock.fileno())

    def _write(self) -> None:
        """Write what is queued. A socket that broke shows itself to the reader too, which ends the connection."""
        self._paho.loop_write()

    def _on_publish(self, _paho: object, _userdata: object, mid: int, code: ReasonCode, _properties: object) -> None:
        future = self._pending.get(mid)
        if future is not None and not future.done():
            future.set_result(code)


def _no_ack() -> None:
    """QoS 0 knows no acknowledgement."""


def _publish_properties(message: Message) -> Properties | None:
    if message.correlation is None and message.response_topic is None and message.expiry_s is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)
    if message.correlation is not None:
        properties.CorrelationData = message.correlation
    if message.response_topic is not None:
        properties.ResponseTopic = message.response_topic
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    return properties
