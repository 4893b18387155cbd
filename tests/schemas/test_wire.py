"""Hostile bytes: only WireError ever comes of them, and never much memory."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DecodeError, TooLargeError, WireError
from schemas.messages import Presence, Work
from schemas.wire import (
    MAX_CONTROL_BYTES,
    MAX_FRAME_BYTES,
    decode_map,
    decode_outcome,
    decode_reply,
    decode_work,
    encode_work,
)
from tests.schemas.samples import DEAD_LETTER, DECODERS, MESSAGES, PRESENCE, STATS, encode

MOST_MEMORY = 12 << 20
"""What decoding 64 KiB may allocate at most: the worst is an array of empty arrays, one byte each."""

_GOOD_WORK = [1, b"12345678", 0, 250, [b"abc"]]
_GOOD_REPLY = [1, 0, [3, 0.5], 10, 20, 1]

HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "nil": b"\xc0",
    "never used byte": b"\xc1",
    "array32 of 4 billion": b"\xdd\xff\xff\xff\xff",
    "map32 of 4 billion": b"\xdf\xff\xff\xff\xff",
    "bin32 of 4 GiB": b"\xc6\xff\xff\xff\xff",
    "str32 of 4 GiB": b"\xdb\xff\xff\xff\xff",
    "ext32 of 4 GiB": b"\xc9\xff\xff\xff\xff\x01",
    "work whose payloads are 4 billion": msgpack.packb(_GOOD_WORK)[:-5] + b"\xdd\xff\xff\xff\xff",
    "work whose payload is 4 GiB": msgpack.packb(_GOOD_WORK)[:-5] + b"\x91\xc6\xff\xff\xff\xff",
    "arrays nested 10,000 deep": b"\x91" * 10_000 + b"\xc0",
    "maps nested 10,000 deep": b"\x81\xa1a" * 10_000 + b"\xc0",
    "arrays of 256 nested without an end": b"\xdc\x01\x00" * 21_845,
    "257 items": b"\xdc\x01\x01" + b"\x00" * 257,
    "many empty arrays": b"\xdc\x01\x00" + (b"\xdc\x00\xff" + b"\x90" * 255) * 253 + b"\x90" * 3,
    "many empty maps": b"\xdc\x01\x00" + (b"\xdc\x00\xff" + b"\x80" * 255) * 253 + b"\x80" * 3,
    "extension": b"\xd4\x05\x00",
    "timestamp": b"\xd6\xff\x00\x00\x00\x00",
    "map with integer keys": msgpack.packb({1: 2}),
    "map with array keys": b"\x81\x90\x01",
    "map with nil key": b"\x81\xc0\x01",
    "text that is not UTF-8": b"\xa2\xff\xfe",
    "text of a surrogate": b"\xa3\xed\xa0\x80",
    "two values": b"\x01\x02",
    "JSON nested 10,000 deep": b"[" * 10_000,
    "JSON objects nested 10,000 deep": b'{"a":' * 10_000,
    "JSON integer of 10,000 digits": b'{"label":' + b"9" * 10_000 + b"}",
    "JSON of many unknown keys": json.dumps({f"k{n}": n for n in range(4000)}).encode(),
    "JSON NaN": b'{"cost":NaN}',
    "JSON surrogate": b'{"node":"\\ud800"}',
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_a_wire_error_and_cost_little_memory(decoder: str, data: bytes) -> None:
    assert len(data) <= MAX_FRAME_BYTES
    tracemalloc.start()
    try:
        with pytest.raises(WireError) as caught:
            DECODERS[decoder](data)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 4000


@pytest.mark.parametrize("decoder", DECODERS)
@given(data=st.binary(max_size=200))
def test_random_bytes_are_a_message_or_a_wire_error(decoder: str, data: bytes) -> None:
    try:
        DECODERS[decoder](data)
    except WireError as error:
        assert str(error)  # noqa: PT017


_LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.binary(max_size=8)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=2))
)
values = st.recursive(
    _LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)
)


@given(st.integers(0, 4), values)
def test_any_value_in_any_place_of_work_is_taken_as_it_is_or_refused(place: int, value: Any) -> None:
    items = [value if n == place else item for n, item in enumerate(_GOOD_WORK)]
    try:
        work = decode_work(msgpack.packb(items))
    except WireError:
        return
    assert [1, work.interface, work.point, work.deadline_ms, list(work.payloads)] == items
    assert type(items[2]) is type(items[3]) is type(items[0]) is int


@given(st.integers(0, 6), values)
def test_any_value_in_any_place_of_a_reply_is_taken_as_it_is_or_refused(place: int, value: Any) -> None:
    items = [value if n == place else item for n, item in enumerate([*_GOOD_REPLY, ""])]
    try:
        reply = decode_reply(msgpack.packb(items))
    except WireError:
        return
    flat = [part for answer in reply.answers for part in (answer.label, answer.confidence)]
    assert [1, reply.status, flat, reply.queue_us, reply.compute_us, reply.batch, reply.detail] == items
    assert all(type(items[n]) is int for n in (0, 1, 3, 4, 5))


@pytest.mark.parametrize("good", [PRESENCE, STATS, DEAD_LETTER], ids=lambda model: type(model).__name__)
@given(data=st.data())
def test_any_value_in_any_field_of_a_map_is_taken_as_it_is_or_refused(good: Any, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(type(good).model_fields)))
    fields = {**good.model_dump(mode="json"), field: data.draw(values)}
    try:
        decoded = decode_map(type(good), msgpack.packb(fields))
    except WireError:
        return
    assert {name: item for name, item in decoded.model_dump(mode="json").items() if name != "serves"} == {
        name: item for name, item in fields.items() if name != "serves"
    }


@pytest.mark.parametrize("version", [0, 2, -1, True, 1.0, "1", b"\x01", None, [1], {}, 1 << 63, b"\0" * 60_000])
def test_another_wire_version_is_refused_with_the_remedy(version: Any) -> None:
    for decode, good in ((decode_work, _GOOD_WORK), (decode_reply, _GOOD_REPLY)):
        with pytest.raises(DecodeError, match="this release speaks 1; update the older side") as caught:
            decode(msgpack.packb([version, *good[1:]]))
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "answers",
    [
        [1],
        [1, 0.5, 2],
        [0.5, 1],
        [True, 0.5],
        [1, True],
        [1, "0.5"],
        [-1, 0.5],
        [1, 1.5],
        [1, math.nan],
        [1, math.inf],
        [65_536, 0.5],
        {},
        "ab",
        b"ab",
        None,
        [[1, 0.5]],
        [1, 0.5] * 65,
    ],
)
def test_answers_that_are_not_labels_with_confidences_are_refused(answers: Any) -> None:
    with pytest.raises(DecodeError):
        decode_reply(msgpack.packb([1, 0, answers, 10, 20, 1]))


def test_a_whole_number_is_a_confidence_too() -> None:
    assert decode_reply(msgpack.packb([1, 0, [3, 1], 10, 20, 1])).answers[0].confidence == 1.0


def test_a_frame_over_the_cap_is_refused_on_both_sides_with_its_size() -> None:
    work = Work(interface=b"12345678", point=0, deadline_ms=1, payloads=(bytes(100),))
    size = len(encode_work(work))
    assert decode_work(encode_work(work, cap=size), cap=size) == work
    with pytest.raises(TooLargeError, match="raise the cap on both sides") as sending:
        encode_work(work, cap=size - 1)
    with pytest.raises(TooLargeError) as receiving:
        decode_work(encode_work(work), cap=size - 1)
    assert (sending.value.size, sending.value.cap) == (receiving.value.size, receiving.value.cap) == (size, size - 1)


def test_a_raised_cap_takes_a_larger_payload() -> None:
    work = Work(interface=b"12345678", point=0, deadline_ms=1, payloads=(bytes(1 << 20),))
    assert decode_work(encode_work(work, cap=2 << 20), cap=2 << 20) == work


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_message_over_the_cap_is_refused_before_it_is_read(decoder: str) -> None:
    with pytest.raises(TooLargeError):
        DECODERS[decoder](b"\x90" + bytes(MAX_CONTROL_BYTES))


def test_an_error_never_quotes_a_payload() -> None:
    secret = b"portrait of a person"
    good = b"12345678"
    for items in ([1, secret, 0, 250, [secret]], [1, good, 0, 250, [secret] * 65], [1, good, 0, 250, secret]):
        with pytest.raises(DecodeError) as caught:
            decode_work(msgpack.packb(items))
        assert "portrait" not in str(caught.value)


def test_an_error_names_the_field_and_the_value() -> None:
    with pytest.raises(DecodeError, match=r"not a valid Work: deadline_ms: .* \(got -5\)"):
        decode_work(msgpack.packb([1, b"12345678", 0, -5, [b"abc"]]))


def test_many_problems_are_counted_rather_than_listed() -> None:
    fields = {**PRESENCE.model_dump(mode="json"), "serves": [{}] * 64}
    with pytest.raises(DecodeError, match="and 248 more"):
        decode_map(Presence, msgpack.packb(fields))


def test_an_inference_costs_at_most_sixty_bytes_beyond_its_tensor() -> None:
    work = Work(interface=b"12345678", point=255, deadline_ms=3_600_000, payloads=(bytes(1553),))
    overhead = len(encode_work(work)) - 1553
    assert overhead + len(encode(MESSAGES["reply_ok"])) <= 60


def test_an_outcome_is_one_line_of_json() -> None:
    data = encode(MESSAGES["outcome"])
    assert b"\n" not in data
    assert json.loads(data)["route"] == "hybrid_split"


@pytest.mark.parametrize(
    ("field", "value"), [("label", "9"), ("escalated", 1), ("cost", "0"), ("route", "walk"), ("batch", 1.5)]
)
def test_an_outcome_of_other_types_is_refused(field: str, value: Any) -> None:
    fields = {**json.loads(encode(MESSAGES["outcome"])), field: value}
    with pytest.raises(DecodeError, match=field):
        decode_outcome(json.dumps(fields).encode())
