"""Round trips of every message, over the whole range of every field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.messages import (
    MAX_BURST,
    Answer,
    DeadLetter,
    Outcome,
    Presence,
    PresenceState,
    Reply,
    Scores,
    Served,
    StageTimes,
    Stats,
    Status,
    Work,
)
from schemas.policy import PrivacyLevel, Route
from schemas.record import OpenRecord
from schemas.wire import MAX_CONTROL_BYTES
from tests.schemas.samples import DEAD_LETTER, DECODERS, MESSAGES, OUTCOME, PRESENCE, STATS, encode

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
text = st.text(st.characters(codec="utf-8"), max_size=512)
short = st.text(st.characters(codec="utf-8"), max_size=64)
uint32 = st.integers(0, 0xFFFF_FFFF)
uint16 = st.integers(0, 0xFFFF)
share = st.floats(0, 1)
share32 = st.floats(0, 1, width=32)
number = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(1 << 63), (1 << 63) - 1)

works = st.builds(
    Work,
    interface=st.binary(min_size=8, max_size=8),
    point=st.integers(0, 255),
    deadline_ms=st.integers(1, 3_600_000),
    payloads=st.lists(st.binary(max_size=40), min_size=1, max_size=MAX_BURST).map(tuple),
)
answers = st.builds(Answer, label=uint16, confidence=share32)
replies = st.builds(
    Reply,
    status=st.sampled_from(Status),
    answers=st.lists(answers, max_size=MAX_BURST).map(tuple),
    queue_us=uint32,
    compute_us=uint32,
    batch=uint16,
    detail=text,
)
served = st.builds(
    Served, model=ids, line=short, version=short, interface=st.binary(min_size=32, max_size=32).map(bytes.hex)
)
presences = st.builds(
    Presence,
    kind=st.sampled_from(["edge", "worker"]),
    id=ids,
    session=ids,
    state=st.sampled_from(PresenceState),
    serves=st.lists(served, max_size=3).map(tuple),
    software=text,
)
stats = st.builds(
    Stats,
    kind=st.sampled_from(["edge", "worker"]),
    id=ids,
    uptime_s=st.floats(0, 1e12),
    counters=st.dictionaries(short, st.integers(0, (1 << 63) - 1), max_size=5),
    gauges=st.dictionaries(short, number, max_size=5),
)
dead_letters = st.builds(DeadLetter, worker=ids, topic=text, size=uint32, status=st.sampled_from(Status), detail=text)
scores = st.builds(Scores, **dict.fromkeys(Scores.model_fields, share))
times = st.builds(StageTimes, **dict.fromkeys(StageTimes.model_fields, number))
outcomes = st.builds(
    Outcome,
    node=ids,
    request=text,
    model=ids,
    label=whole,
    label_name=text,
    confidence=share,
    source=st.sampled_from(["edge", "cloud"]),
    route=st.sampled_from(Route),
    reason=text,
    scores=st.none() | scores,
    privacy=st.sampled_from(PrivacyLevel),
    escalated=st.booleans(),
    **dict.fromkeys(("cloud_status", "edge_version", "cloud_version", "interface"), short),
    **dict.fromkeys(("attempts", "payload_bytes", "bytes_up", "bytes_down", "batch"), whole),
    cost=number,
    deadline_ms=number,
    times_ms=times,
)


@given(works | replies | presences | stats | dead_letters | outcomes)
def test_every_message_comes_back_as_it_was_sent(message: OpenRecord) -> None:
    assert DECODERS[type(message).__name__](encode(message)) == message


@given(share)
def test_a_confidence_travels_as_the_nearest_float32(confidence: float) -> None:
    reply = Reply(status=Status.OK, answers=(Answer(label=0, confidence=confidence),))
    decoded = DECODERS["Reply"](encode(reply))
    assert isinstance(decoded, Reply)
    assert decoded.answers[0].confidence == float(np.float32(confidence))


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("detail", ["x" * 100_000, "\udcff broken name", "\0" * 600, "😀" * 600])
def test_no_detail_of_our_own_can_keep_a_message_from_being_sent(status: Status, detail: str) -> None:
    reply = Reply(status=status, detail=detail)
    letter = DeadLetter(worker="w", topic="sb/" + detail, size=1, status=status, detail=detail)
    outcome = Outcome.model_validate({**OUTCOME.model_dump(), "reason": detail, "label_name": detail})
    for message in (reply, letter, outcome):
        assert DECODERS[type(message).__name__](encode(message)) == message
    assert len(reply.detail) <= 512
    assert reply.detail[:6] == detail[:6].replace("\udcff", "?")


def test_the_largest_messages_stay_under_the_cap() -> None:
    wide = "\U0010ffff"
    one = Served(model="m" * 64, line=wide * 64, version=wide * 64, interface="a" * 64)
    names = [f"{n:02}" + wide * 62 for n in range(64)]
    largest = [
        PRESENCE.model_copy(update={"serves": (one,) * 64, "software": wide * 512}),
        STATS.model_copy(update={"counters": dict.fromkeys(names, 1 << 62), "gauges": dict.fromkeys(names, 0.1)}),
        DEAD_LETTER.model_copy(update={"topic": wide * 512, "detail": wide * 512}),
        OUTCOME.model_copy(update=dict.fromkeys(("request", "reason", "label_name"), "\0" * 512)),
        Reply(status=Status.OK, answers=(Answer(label=65_535, confidence=0.5),) * MAX_BURST, detail=wide * 512),
    ]
    for message in largest:
        data = encode(message)
        assert len(data) <= MAX_CONTROL_BYTES
        assert DECODERS[type(message).__name__](data) == message


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_message_cannot_be_changed(message: OpenRecord) -> None:
    field = next(iter(type(message).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(message, field, getattr(message, field))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interface", b"1234567"),
        ("interface", b"123456789"),
        ("interface", "12345678"),
        ("point", -1),
        ("point", 256),
        ("point", True),
        ("deadline_ms", 0),
        ("deadline_ms", 3_600_001),
        ("deadline_ms", 5.0),
        ("payloads", ()),
        ("payloads", (b"",) * (MAX_BURST + 1)),
        ("payloads", ("text",)),
        ("payloads", b"bytes"),
    ],
)
def test_work_with_an_impossible_field_is_refused(field: str, value: Any) -> None:
    good = MESSAGES["work_1"].model_dump()
    with pytest.raises(ValidationError, match=field):
        Work.model_validate({**good, field: value})


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        (Presence, "id", "a/b"),
        (Presence, "id", "+"),
        (Presence, "id", "a\n"),
        (Presence, "kind", "broker"),
        (Presence, "state", "dead"),
        (Presence, "state", b"online"),
        (Stats, "uptime_s", -1.0),
        (Stats, "uptime_s", float("nan")),
        (Stats, "uptime_s", float("inf")),
        (Stats, "uptime_s", "1"),
        (Stats, "counters", {"a": -1}),
        (Stats, "counters", {"a": 1 << 63}),
        (Stats, "counters", {"a": True}),
        (Stats, "counters", {b"a": 1}),
        (Stats, "gauges", {"a": float("inf")}),
        (Stats, "gauges", {"a" * 65: 1.0}),
        (DeadLetter, "size", 1 << 32),
        (DeadLetter, "status", True),
        (DeadLetter, "status", 4.0),
        (DeadLetter, "status", "4"),
        (DeadLetter, "status", 99),
    ],
)
def test_a_control_message_with_an_impossible_field_is_refused(model: type[OpenRecord], field: str, value: Any) -> None:
    good = {Presence: PRESENCE, Stats: STATS, DeadLetter: DEAD_LETTER}[model].model_dump(mode="json")
    with pytest.raises(ValidationError, match=field):
        model.model_validate({**good, field: value})
