"""Our packing and reading of PUBLISH packets against paho's own, and against hostile ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker.bus import Message
from broker.packets import PublishProperties, publish_size, read_publish, varint
from schemas.errors import DecodeError

TOPICS = st.text(st.characters(codec="utf-8", exclude_characters="#+\x00", exclude_categories=("Cs", "Cc")), min_size=1)


@given(
    correlation=st.none() | st.binary(max_size=300),
    topic=st.none() | TOPICS,
    expiry=st.none() | st.integers(0, 2**32 - 1),
)
def test_paho_reads_back_what_was_packed(correlation: bytes | None, topic: str | None, expiry: int | None) -> None:
    message = Message("t", b"", correlation=correlation, response_topic=topic, expiry_s=expiry)
    packed = PublishProperties(message).pack()
    read = Properties(PacketTypes.PUBLISH)
    _, consumed = read.unpack(packed)
    assert consumed == len(packed)
    assert getattr(read, "CorrelationData", None) == correlation
    assert getattr(read, "ResponseTopic", None) == topic
    assert getattr(read, "MessageExpiryInterval", None) == expiry
    assert publish_size(message) == 1 + 1 + 2 + 1 + len(packed) or len(packed) > 120


def test_a_variable_byte_integer_is_as_in_the_specification() -> None:
    assert [varint(n) for n in (0, 127, 128, 16_383, 16_384)] == [
        b"\x00",
        b"\x7f",
        b"\x80\x01",
        b"\xff\x7f",
        b"\x80\x80\x01",
    ]


@given(
    topic=TOPICS,
    payload=st.binary(max_size=200),
    correlation=st.none() | st.binary(max_size=300),
    expiry=st.none() | st.integers(0, 2**32 - 1),
    qos=st.sampled_from([0, 1]),
)
def test_what_is_packed_is_read_back(topic, payload, correlation, expiry, qos) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    message = Message(topic, payload, qos, correlation=correlation, response_topic=topic, expiry_s=expiry)
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + (b"\x00\x07" if qos else b"")
    read = read_publish(0x30 | qos << 1, body + PublishProperties(message).pack() + payload)
    assert (read.message, read.packet_id) == (message, 7 if qos else 0)


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(b"\x01\x09", id="a payload format that does not exist"),
        pytest.param(b"\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01b", id="user properties"),
        pytest.param(b"\x0b\x05\x23\x00\x01\x03\x00\x02hi", id="subscription id, alias, content type"),
    ],
)
def test_properties_that_are_not_used_are_skipped_whatever_they_say(properties: bytes) -> None:
    body = b"\x00\x01t" + varint(len(properties)) + properties + b"payload"
    assert read_publish(0x31, body).message == Message("t", b"payload", retain=True)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"\x02\x09\x00", id="a correlation cut short"),
        pytest.param(b"\x05\x02\x00\x00", id="longer than the packet"),
        pytest.param(b"\x02\x7f\x00", id="an unknown property"),
        pytest.param(b"\xff\xff\xff\xff\xff", id="a length without an end"),
        pytest.param(b"\x04\x08\x00\x01\xff", id="a response topic that is not UTF-8"),
    ],
)
def test_a_message_that_cannot_be_read_can_still_be_acknowledged(rest: bytes) -> None:
    read = read_publish(0x32, b"\x00\x01t\x00\x07" + rest)
    assert (read.message, read.packet_id) == (None, 7)
    assert read.problem


@given(st.integers(0x30, 0x3F), st.binary(max_size=80))
def test_random_bytes_are_a_publish_or_a_decode_error(header: int, body: bytes) -> None:
    try:
        read_publish(header, body)
    except DecodeError:
        return
