"""Whatever comes over the bus becomes one line that can be read and that controls no terminal."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.bus import Message
from broker.fleet.rendering import MAX_PAYLOAD_BYTES, json_of, line_of
from broker.fleet.sightings import UNKNOWN, sight
from broker.fleet.text import Paint, printable
from schemas.topics import Topics
from tests.golden.store import FOLDER, read_index

TOPICS = Topics("sb")
AT = 1_700_000_000.25
PLACES = {
    "Work": "sb/w/fashion/1.4/cam-1",
    "Reply": "sb/r/cam-1",
    "Presence": "sb/p/worker/w1",
    "Stats": "sb/s/worker/w1",
    "Outcome": "sb/o/cam-1/fashion",
    "DeadLetter": "sb/d/bad-frame",
}
KINDS = {kind: kind.lower() for kind in PLACES} | {"DeadLetter": "dead letter"}
GOLDEN = {name: entry["message"] for name, entry in read_index().items() if "message" in entry}


def golden(name: str, **changes: Any) -> Message:
    place = PLACES[GOLDEN[name]]
    return replace(Message(place, (FOLDER / name).read_bytes(), correlation=bytes(range(8))), **changes)


def line(message: Message, *, payload: bool = False) -> str:
    return line_of(sight(message, TOPICS), AT, Paint(), payload=payload)


def row(message: Message, *, payload: bool = False) -> dict[str, Any]:
    text = json_of(sight(message, TOPICS), AT, payload=payload)
    assert text.isascii()
    assert text.isprintable()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@pytest.mark.parametrize("name", GOLDEN)
def test_every_golden_message_is_understood(name: str) -> None:
    seen = sight(golden(name), TOPICS)
    assert seen.what == KINDS[GOLDEN[name]]
    assert seen.problem == ""
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} " + seen.what, line(golden(name)))
    assert row(golden(name))["message"] is not None


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("work_1.bin", ["fashion 1.4 cam-1", "point 0", "250 ms left", "1 sample,", "10 B", "interface 01020304",
                        "correlation 04050607"]),
        ("work_3.bin", ["point 255", "3 samples", "296 B"]),
        ("reply_ok.bin", ["cam-1", "ok: label 7 75.0%, label 65535 0.0%", "queue 1.5 ms", "batch 32"]),
        ("reply_unknown_point.bin", ["unknown point", "because of UNKNOWN_POINT"]),
        ("presence.bin", ["worker w1", "online, serves fashion 1.4 (1.4.2, interface abababab)", "session s-0001"]),
        ("presence_offline.bin", ["offline, serves nothing", "BUT SAYS IT IS edge cam-1"]),
        ("stats.bin", ["up 1 d 0 h", "frames 1099511627776", "queue 1e+300"]),
        ("outcome.bin", ["ankle boot (9) 93.8%", "hybrid_split by cloud", "26.4 ms", "3240 B up 64 B down"]),
        ("dead_letter.bin", ["bad-frame", "w1 refused 70000 B from sb/w/fashion/1.4/cam-1: bad frame, over the cap"]),
    ],
)  # fmt: skip
def test_a_line_holds_the_facts(name: str, facts: list[str]) -> None:
    shown = line(golden(name))
    assert [fact for fact in facts if fact not in shown] == []


def test_an_outcome_without_an_answer_says_so() -> None:
    fields = json.loads(golden("outcome.bin").payload) | {"label": None, "label_name": "", "source": "none"}
    assert "no answer, hybrid_split by none" in line(golden("outcome.bin", payload=json.dumps(fields).encode()))


def test_the_stage_of_a_message_is_told_apart() -> None:
    assert "[retained]" in line(golden("presence.bin", retain=True))
    assert "[retained]" not in line(golden("presence.bin"))
    assert "cleared" in line(Message(PLACES["Presence"], b"", retain=True))
    assert "NO CORRELATION" in line(golden("reply_ok.bin", correlation=None))


def test_what_does_not_decode_says_why_and_shows_its_first_bytes() -> None:
    broken = golden("work_1.bin", payload=b"\xde\xad\xbe\xef")
    assert "NOT READABLE" in line(broken)
    assert "4 B: deadbeef" in line(broken)
    assert row(broken)["first_bytes"] == "deadbeef"
    assert row(broken)["message"] is None


def test_a_frame_over_the_cap_is_shown_all_the_same() -> None:
    seen = sight(
        golden("work_1.bin", payload=b"\x95\x01\xc4\x08abcdefgh\x00\x01\x91\xc6\x00\x02\x00\x00" + bytes(1 << 17)),
        TOPICS,
    )
    assert seen.problem == ""


def test_a_topic_that_is_not_ours_is_shown_raw() -> None:
    seen = sight(Message("sb/x/1", b"hello"), TOPICS)
    assert seen.what == UNKNOWN
    assert "sb/x/1" in line(Message("sb/x/1", b"hello"))
    assert "5 B: 68656c6c6f" in line(Message("sb/x/1", b"hello"))
    assert "0 B: nothing" in line(Message("sb/x/1", b""))


def test_the_bytes_are_shown_on_request_and_bounded() -> None:
    assert golden("reply_ok.bin").payload.hex() in line(golden("reply_ok.bin"), payload=True)
    shown = line(Message("sb/x/1", bytes(1 << 20)), payload=True)
    assert len(shown) < 3 * MAX_PAYLOAD_BYTES
    assert "1047552 bytes more" in shown
    assert row(golden("reply_ok.bin"), payload=True)["payload"] == golden("reply_ok.bin").payload.hex()


def test_json_keeps_the_numbers() -> None:
    seen = row(golden("work_3.bin", qos=1))
    assert seen["time"] == "2023-11-14T22:13:20.250+00:00"
    assert (seen["kind"], seen["model"], seen["line"], seen["node"]) == ("work", "fashion", "1.4", "cam-1")
    assert (seen["qos"], seen["retained"], seen["correlation"]) == (1, False, "0001020304050607")
    assert seen["message"]["payload_bytes"] == [0, 40, 256]
    assert row(golden("reply_bad_frame.bin"))["message"]["status"] == "bad_frame"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\r\t", r"a\nb\r\t"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202eevil", r"\u202eevil"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
        (r"\x1b", r"\\x1b"),
        ("Füße", "Füße"),
    ],
)
def test_text_is_made_printable_without_ambiguity(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_terminal_controls_in_a_message_are_escaped() -> None:
    evil = golden("dead_letter.bin").payload.replace(b"over the cap", b"\x1b[2J\x07over\n\r!")
    assert sight(golden("dead_letter.bin", payload=evil), TOPICS).problem == ""
    assert r"\x1b[2J\x07over\n\r" in line(golden("dead_letter.bin", payload=evil))


def test_colours_are_ours_alone() -> None:
    plain = line(golden("outcome.bin"))
    painted = line_of(sight(golden("outcome.bin"), TOPICS), AT, Paint(on=True))
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[\d+m", "", painted) == plain


topics = st.one_of(
    st.sampled_from([*PLACES.values(), "sb", "sb/", "", "$SYS/x", "sb/w/a/1.0"]),
    st.text(max_size=40),
    st.text(alphabet="sbwrpod/1.\x1b\n", max_size=20),
)
payloads = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda name, at, byte: (
            (data := (FOLDER / name).read_bytes())[: at % len(data)] + byte + data[at % len(data) + 1 :]
        ),
        st.sampled_from(sorted(GOLDEN)),
        st.integers(0, 1 << 16),
        st.binary(min_size=1, max_size=1),
    ),
)


@given(topics, payloads, st.booleans(), st.none() | st.binary(max_size=80))
def test_nothing_on_the_wire_breaks_a_line(topic: str, payload: bytes, retain: bool, correlation: bytes | None) -> None:  # noqa: FBT001
    message = Message(topic, payload, retain=retain, correlation=correlation)
    assert line(message, payload=True).isprintable()
    assert len(line(message)) < 8192
    assert row(message, payload=True)["size"] == len(payload)
