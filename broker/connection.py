"""One connection to a real broker, through aiomqtt; the only module that imports it.

aiomqtt 2.5 acknowledges QoS 1 on arrival, drops what its queue does not hold and throws PUBACK reason codes
away. So this module reaches into the paho client underneath: manual acknowledgement, its own reading of
PUBLISH packets and its own `on_publish`, and a write at once instead of in the loop's next turn (which needs its
own registration of writers too: aiomqtt registers them a turn late, after such a write, and would spin). It also
closes the connection itself: aiomqtt leaves a socket open when an attempt to connect times out or is cancelled,
and waits for a DISCONNECT that a full socket does not take. `REACH` and `PAHO_REACH` name every private attribute that
it uses; a test fails when a release renames one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from broker.acks import AckOrder
from broker.address import BrokerAddress
from broker.bus import Message, QoS
from broker.packets import PublishProperties, publish_size, read_publish
from schemas.errors import BrokerRefusedError, BrokerUnavailableError, NotConnectedError, TooLargeError

REACH: Final = ("_client", "_connected", "_disconnected")
PAHO_REACH: Final = ("_handle_publish", "_in_packet", "_sock_close")
_FATAL_CODES: Final = frozenset({0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""CONNACK codes that trying again does not cure: malformed, protocol, version, id, password, rights, ban."""
_FAILURE: Final = 0x80
_MOST_INFLIGHT: Final = 1024
"""Most QoS 1 messages that wait for their PUBACK at once, where the broker does not ask for fewer."""
_NODELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

logger = logging.getLogger(__name__)

Deliver = Callable[[Message, Callable[[], None]], None]
"""What a connection does with a message that arrived, and with what acknowledges it."""


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


@asynccontextmanager
async def open_connection(config: LinkConfig, will: Message | None, deliver: Deliver) -> AsyncIterator[Connection]:
    """Connect, and leave no socket, reader or task behind, however it ends.

    Raises BrokerRefusedError when the broker says no for good, BrokerUnavailableError when it says no for now
    or does not answer. On exit DISCONNECT is said, so that the broker does not publish the will.
    """
    try:
        client = _client(config, will)
        limits = _Limits.watch(client)
        _survive_refusal(client)
    except ValueError as error:
        raise BrokerUnavailableError(str(error)) from None
    # paho connects in a thread that no cancellation stops; so its end is waited for, as asyncio.run would too
    connecting = asyncio.create_task(client.__aenter__(), name="connect")
    try:
        await asyncio.wait({connecting})
        _check(connecting, config.client_id)
        connection = Connection(client, limits, deliver, config.timeout_s)
        try:
            yield connection
        finally:
            connection.close()
    finally:
        if not connecting.done():
            client._connected.cancel()  # noqa: SLF001 - see REACH; the thread is waited for, the CONNACK is not
        await asyncio.wait({connecting})
        if not connecting.cancelled():
            connecting.exception()
        _hang_up(client)


def _client(config: LinkConfig, will: Message | None) -> aiomqtt.Client:
    address = config.address
    properties = cast("Any", Properties)(PacketTypes.CONNECT)
    properties.ReceiveMaximum = config.receive_maximum
    return aiomqtt.Client(
        address.host,
        address.port,
        username=address.username,
        password=address.password,
        identifier=config.client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        will=None if will is None else aiomqtt.Will(will.topic, will.payload, will.qos, will.retain),
        keepalive=config.keepalive_s,
        timeout=config.timeout_s,
        clean_start=True,
        properties=properties,
        tls_context=ssl.create_default_context() if address.tls else None,
        socket_options=[_NODELAY],
        max_inflight_messages=_MOST_INFLIGHT,
    )


def _check(connecting: asyncio.Task[aiomqtt.Client], client_id: str) -> None:
    """Raise what the attempt to connect ended with, as an error of our own tree."""
    try:
        connecting.result()
    except aiomqtt.exceptions.MqttConnectError as error:
        code: int = error.rc.value if isinstance(error.rc, ReasonCode) else error.rc or 0
        if code in _FATAL_CODES:
            raise BrokerRefusedError(f"accept {client_id!r}", str(error.rc), code) from None
        raise BrokerUnavailableError(str(error)) from None
    except (aiomqtt.MqttError, OSError, ValueError) as error:
        raise BrokerUnavailableError(str(error)) from None


@dataclass(slots=True)
class _Limits:
    """What the broker asked for in its CONNACK."""

    packet_bytes: int | None = None
    receive_maximum: int = _MOST_INFLIGHT

    @classmethod
    def watch(cls, client: aiomqtt.Client) -> _Limits:
        """Limits that are filled in when the CONNACK comes."""
        limits = cls()
        paho = client._client  # noqa: SLF001 - see REACH
        handle: Any = paho.on_connect

        def on_connect(paho: object, userdata: object, flags: object, code: object, properties: object) -> None:
            limits.packet_bytes = getattr(properties, "MaximumPacketSize", None)
            limits.receive_maximum = min(_MOST_INFLIGHT, getattr(properties, "ReceiveMaximum", _MOST_INFLIGHT))
            handle(paho, userdata, flags, code, properties)

        paho.on_connect = on_connect
        return limits


def _survive_refusal(client: aiomqtt.Client) -> None:
    """Keep a CONNACK that refuses after the attempt was given up from raising in aiomqtt's reader."""
    paho = client._client  # noqa: SLF001 - see REACH
    handle: Any = paho.on_disconnect

    def on_disconnect(*arguments: object) -> None:
        if not client._connected.cancelled():  # noqa: SLF001 - see REACH; aiomqtt asks it for its exception
            handle(*arguments)

    paho.on_disconnect = on_disconnect


def _hang_up(client: aiomqtt.Client) -> None:
    """Say DISCONNECT if the socket takes it at once, so that the broker publishes no will; close in any case."""
    paho: Any = client._client  # noqa: SLF001 - see REACH
    paho.on_socket_register_write = None  # which makes paho write at once
    paho.disconnect()
    paho._sock_close()  # noqa: SLF001 - see PAHO_REACH
    disconnected = client._disconnected  # noqa: SLF001 - see REACH
    if not disconnected.done():
        disconnected.set_result(None)


class Connection:
    """One aiomqtt client from CONNACK to the end, with the paho client underneath taken over."""

    def __init__(self, client: aiomqtt.Client, limits: _Limits, deliver: Deliver, timeout_s: float) -> None:
        self._client = client
        self._packet_bytes = limits.packet_bytes
        self._window = asyncio.Semaphore(limits.receive_maximum)
        self._paho = cast("Any", client._client)  # noqa: SLF001 - see REACH
        self._disconnected: asyncio.Future[None] = client._disconnected  # noqa: SLF001 - see REACH
        self._disconnected.add_done_callback(self._on_disconnected)
        self._deliver = deliver
        self._timeout_s = timeout_s
        self._pending: dict[int, asyncio.Future[ReasonCode]] = {}
        self._acks = AckOrder(lambda mid: self._paho.ack(mid, 1))
        self._paho.manual_ack_set(on=True)
        self._paho._handle_publish = self._on_packet  # noqa: SLF001 - see PAHO_REACH
        self._paho.on_publish = None
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
        if message.qos == 0:
            info = self._hand_over(message)
            if not info.is_published():
                await self._in_time(self._outcome_of(info), message)
            return
        async with self._window:
            code = await self._in_time(self._outcome_of(self._hand_over(message)), message)
        if code.value >= _FAILURE:
            raise BrokerRefusedError(f"take a message to {message.topic}", str(code), code.value)

    def _hand_over(self, message: Message) -> MQTTMessageInfo:
        """Give a message to paho and write as much as the socket takes."""
        info: MQTTMessageInfo = self._paho.publish(
            message.topic, message.payload, message.qos, message.retain, PublishProperties(message)
        )
        if info.rc != MQTT_ERR_SUCCESS:
            msg = f"the connection broke while publishing to {message.topic} (paho error {info.rc})"
            raise NotConnectedError(msg)
        self._paho.loop_write()
        return info

    async def _outcome_of(self, info: MQTTMessageInfo) -> ReasonCode:
        """Wait until a message was written (QoS 0) or acknowledged (QoS 1).

        paho makes two objects for each call of `on_publish`, so it is set only while somebody waits.
        """
        future: asyncio.Future[ReasonCode] = asyncio.get_running_loop().create_future()
        self._pending[info.mid] = future
        self._paho.on_publish = self._on_publish
        try:
            return await future
        finally:
            self._pending.pop(info.mid, None)
            if not self._pending:
                self._paho.on_publish = None

    async def _in_time(self, outcome: Coroutine[Any, Any, ReasonCode], message: Message) -> ReasonCode:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await outcome
        except TimeoutError:
            msg = f"the broker did not take a message to {message.topic} within {self._timeout_s:g} s"
            raise NotConnectedError(msg) from None

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

    def _on_packet(self) -> MQTTErrorCode:
        """Take paho's place in reading a PUBLISH."""
        packet = self._paho._in_packet  # noqa: SLF001 - see PAHO_REACH
        publish = read_publish(packet["command"], bytes(packet["packet"]))
        ack = self._acks.expect(publish.packet_id) if publish.packet_id else _no_ack
        if publish.message is None:
            logger.warning("dropped a message that cannot be read: %s", publish.problem)
            ack()
        else:
            self._deliver(publish.message, ack)
        return MQTT_ERR_SUCCESS

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
