"""Our packing of a PUBLISH's properties against paho's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker.bus import Message
from broker.packets import publish_size
from broker.properties import PublishProperties, varint

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
