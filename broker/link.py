"""The bus over a real broker, through aiomqtt; the only module that imports it.

aiomqtt 2.5 acknowledges QoS 1 on arrival, drops what its queue does not hold and throws PUBACK reason codes
away. So this module reaches into the paho client underneath: manual acknowledgement, its own `on_message`
and `on_publish`, and a write at once instead of in the loop's next turn (which needs its own registration of
writers too: aiomqtt registers them a turn late, after such a write, and would spin). It also closes the
connection itself: aiomqtt leaves a socket open when an attempt to connect times out or is cancelled, and waits
for a DISCONNECT that a full socket does not take. `REACH` and `PAHO_REACH` name every private attribute that
it uses; a test fails when a release renames one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Final, Self, cast

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
from schemas.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    LinkError,
    NotConnectedError,
    SplitbusError,
    TooLargeError,
)

REACH: Final = ("_client", "_disconnected")
PAHO_REACH: Final = ("_sock_close",)
_FATAL_CODES: Final = frozenset({0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""CONNACK codes that trying again does not cure: malformed, protocol, version, id, password, rights, ban."""
_FAILURE: Final = 0x80
_MOST_INFLIGHT: Final = 1024
"""Most QoS 1 messages that wait for their PUBACK at once, where the broker does not ask for fewer."""
_NODELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
_STABLE_S: Final = 5.0
"""A connection that lasts so long ends the back-off; two clients of one id must not throw each other out in a spin."""

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
            if self._connection is not None:
                with suppress(NotConnectedError):  # the next connection restores it
                    await self._connection.subscribe(topic_filter, qos)
            yield inbox
        finally:
            try:  # what the broker sends until it has acknowledged the end still belongs to this subscription
                if self._connection is not None:
                    await self._connection.unsubscribe(topic_filter)
            finally:
                del self._inboxes[topic_filter]
                inbox.close()

    def statistics(self) -> BusStatistics:
        """Counters since the start."""
        return BusStatistics(self._connects, self._published, self._received, self._unroutable)

    def route(self, message: Message, ack: Callable[[], None]) -> None:
        """Put one delivery into the inbox of every subscription that it matches."""
        self._received += 1
        matching = [box for box, _ in self._inboxes.values() if _takes(box.filter, message)]
        self._unroutable += not matching
        taken = [inbox.put(Delivery(message, ack)) for inbox in matching]
        if not any(taken):
            ack()

    async def _keep_connected(self) -> None:
        backoff = Backoff(cap_s=self._config.backoff_cap_s)
        while True:
            try:
                await self._one_connection(backoff)
            except aiomqtt.exceptions.MqttConnectError as error:
                self._note_refusal(error)
            except (aiomqtt.MqttError, SplitbusError, OSError, ValueError) as error:
                self._last_error = str(error)
                if isinstance(error, BrokerRefusedError) and not self._connects:
                    self._fatal = error
            self._settled.set()
            delay = backoff.next()
            logger.info("%s: %s; next attempt in %.1f s", self._config.address, self._last_error, delay)
            await asyncio.sleep(delay)

    def _note_refusal(self, error: aiomqtt.exceptions.MqttConnectError) -> None:
        code: int = error.rc.value if isinstance(error.rc, ReasonCode) else error.rc or 0
        self._last_error = str(error)
        if code in _FATAL_CODES and not self._connects:
            self._fatal = BrokerRefusedError(f"accept {self._config.client_id!r}", str(error.rc), code)

    async def _one_connection(self, backoff: Backoff) -> None:
        """Connect, restore, announce, and stay until the connection breaks."""
        session = secrets.token_hex(4)
        async with _opened(self._client(session)) as opened:
            connection = _Connection(opened, self, self._config.timeout_s)
            self._connection = connection  # a subscription that begins from now on subscribes itself
            try:
                await self._restore(connection)
                self._session = session
                if self._announcer is not None:
                    await connection.publish(self._announcer.birth(session))
                self._connects += 1
                self._fatal = None
                self._up.set()
                self._settled.set()
                since = asyncio.get_running_loop().time()
                self._last_error = await connection.lost()
                if asyncio.get_running_loop().time() - since >= _STABLE_S:
                    backoff.reset()
            finally:
                self._up.clear()
                self._connection = None
                connection.close()

    async def _restore(self, connection: _Connection) -> None:
        for topic_filter, entry in list(self._inboxes.items()):
            if self._inboxes.get(topic_filter) is entry:  # it may have ended meanwhile
                await connection.subscribe(topic_filter, entry[1])

    def _client(self, session: str) -> aiomqtt.Client:
        config, address = self._config, self._config.address
        properties = _properties(PacketTypes.CONNECT)
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
            max_inflight_messages=_MOST_INFLIGHT,
        )


@dataclass(slots=True)
class _Opened:
    """A client that has its CONNACK, and the limits that the broker set there."""

    client: aiomqtt.Client
    packet_bytes: int | None = None
    receive_maximum: int = _MOST_INFLIGHT

    def watch_connack(self) -> None:
        paho = self.client._client  # noqa: SLF001 - see REACH
        handle: Any = paho.on_connect

        def on_connect(client: object, userdata: object, flags: object, code: object, properties: object) -> None:
            self.packet_bytes = getattr(properties, "MaximumPacketSize", None)
            self.receive_maximum = min(_MOST_INFLIGHT, getattr(properties, "ReceiveMaximum", _MOST_INFLIGHT))
            handle(client, userdata, flags, code, properties)

        paho.on_connect = on_connect


@asynccontextmanager
async def _opened(client: aiomqtt.Client) -> AsyncIterator[_Opened]:
    """Connect, and leave no socket, reader or task behind, however it ends.

    paho connects in a thread that no cancellation stops; so its end is waited for, as asyncio.run would too.
    """
    opened = _Opened(client)
    opened.watch_connack()
    connecting = asyncio.create_task(client.__aenter__(), name="connect")
    try:
        await asyncio.wait({connecting})
        connecting.result()
        yield opened
    finally:
        await asyncio.wait({connecting})
        connecting.exception()
        _hang_up(client)


def _hang_up(client: aiomqtt.Client) -> None:
    """Say DISCONNECT if the socket takes it at once, so that the broker publishes no will; close in any case."""
    paho: Any = client._client  # noqa: SLF001 - see REACH
    paho.on_socket_register_write = None  # which makes paho write at once
    paho.disconnect()
    paho._sock_close()  # noqa: SLF001 - see PAHO_REACH
    disconnected = client._disconnected  # noqa: SLF001 - see REACH
    if not disconnected.done():
        disconnected.set_result(None)


class _Connection:
    """One aiomqtt client from CONNACK to the end, with the paho client underneath taken over."""

    def __init__(self, opened: _Opened, link: Link, timeout_s: float) -> None:
        self._client = client = opened.client
        self._packet_bytes = opened.packet_bytes
        self._window = asyncio.Semaphore(opened.receive_maximum)
        self._paho = cast("Any", client._client)  # noqa: SLF001 - see REACH
        self._disconnected: asyncio.Future[None] = client._disconnected  # noqa: SLF001 - see REACH
        self._disconnected.add_done_callback(self._on_disconnected)
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
        if self._paho.socket() is None:  # aiomqtt forgets a disconnect that follows the CONNACK at once
            msg = "the broker closed the connection as soon as it had accepted it"
            raise NotConnectedError(msg)

    async def publish(self, message: Message) -> None:
        """Write a PUBLISH at once; at QoS 1 keep to the broker's receive maximum, and wait for the PUBACK."""
        if self._packet_bytes is not None and (size := publish_size(message)) > self._packet_bytes:
            raise TooLargeError(
                f"the packet for {message.topic}", size, self._packet_bytes, "raise the broker's maximum packet size"
            )
        try:
            async with asyncio.timeout(self._timeout_s), self._window if message.qos else nullcontext():
                code = await self._answer_to(message)
        except TimeoutError:
            msg = f"the broker did not take a message to {message.topic} within {self._timeout_s:g} s"
            raise NotConnectedError(msg) from None
        if code.value >= _FAILURE:
            raise BrokerRefusedError(f"take a message to {message.topic}", str(code), code.value)

    async def _answer_to(self, message: Message) -> ReasonCode:
        info = self._paho.publish(
            message.topic, message.payload, message.qos, message.retain, _publish_properties(message)
        )
        if info.rc != MQTT_ERR_SUCCESS:
            msg = f"the connection broke while publishing to {message.topic} (paho error {info.rc})"
            raise NotConnectedError(msg)
        future: asyncio.Future[ReasonCode] = asyncio.get_running_loop().create_future()
        self._pending[info.mid] = future
        try:
            self._paho.loop_write()
            return await future
        finally:
            self._pending.pop(info.mid, None)

    async def subscribe(self, topic_filter: str, qos: QoS) -> None:
        """Subscribe and read the reason code. Raises BrokerRefusedError when it is not granted."""
        codes = await self._answered(self._client.subscribe(topic_filter, qos=qos))
        for code in codes:
            value = code if isinstance(code, int) else code.value
            if value >= _FAILURE:
                raise BrokerRefusedError(f"subscribe {topic_filter}", str(code), value)

    async def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe; a connection that breaks meanwhile has done it too."""
        with suppress(NotConnectedError):
            await self._answered(self._client.unsubscribe(topic_filter))

    async def lost(self) -> str:
        """Wait until the connection is over; the reason in words."""
        await asyncio.wait({self._disconnected})
        error = self._disconnected.exception()
        return f"connection lost: {error}" if error else "connection closed"

    def close(self) -> None:
        """Fail what waits for an acknowledgement that can no longer come."""
        self._acks.close()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(NotConnectedError("the connection broke before the broker acknowledged"))

    def _on_disconnected(self, disconnected: asyncio.Future[None]) -> None:
        if not disconnected.cancelled():
            disconnected.exception()
        self.close()

    async def _answered(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a SUBACK or UNSUBACK while the connection lasts; a broker that owes one too long is left."""
        task = asyncio.create_task(call, name="await the broker's answer")
        try:
            await asyncio.wait({task, self._disconnected}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                msg = "the connection broke before the broker answered"
                raise NotConnectedError(msg)
            return task.result()
        except aiomqtt.MqttError as error:
            _hang_up(self._client)
            raise NotConnectedError(str(error)) from None
        finally:
            task.cancel()

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


def _takes(topic_filter: str, message: Message) -> bool:
    """Whether a delivery is one of a subscription; mosquitto 2.0.11 sends retained ones to shared ones too."""
    group, plain = split_share(topic_filter)
    return matches(plain, message.topic) and not (message.retain and group is not None)


def _no_ack() -> None:
    """QoS 0 knows no acknowledgement."""


def _properties(packet: int) -> Any:
    """paho's class has no types, and its attributes exist once they are set."""  # noqa: D403 - its name is so
    return cast("Any", Properties)(packet)


def _publish_properties(message: Message) -> Any:
    if message.correlation is None and message.response_topic is None and message.expiry_s is None:
        return None
    properties = _properties(PacketTypes.PUBLISH)
    if message.correlation is not None:
        properties.CorrelationData = message.correlation
    if message.response_topic is not None:
        properties.ResponseTopic = message.response_topic
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    return properties
