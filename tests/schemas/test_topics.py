from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError, DecodeError
from schemas.topics import Address, Kind, Topics, check_id

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
lines = st.from_regex(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})", fullmatch=True)
kinds: st.SearchStrategy[Kind] = st.sampled_from(["edge", "worker"])
roots = ids.map(Topics)


@given(roots, ids, lines, ids)
def test_work_topics_parse_to_what_they_were_built_from(topics: Topics, model: str, line: str, node: str) -> None:
    levels = {"model": model, "line": line, "node": node}
    assert topics.parse(topics.work(model, line, node)) == Address("work", levels)


@given(roots, kinds, ids, ids)
def test_all_other_topics_parse_to_what_they_were_built_from(topics: Topics, kind: Kind, id_: str, model: str) -> None:
    assert topics.parse(topics.reply(id_)) == Address("reply", {"node": id_})
    assert topics.parse(topics.presence(kind, id_)) == Address("presence", {"kind": kind, "id": id_})
    assert topics.parse(topics.stats(kind, id_)) == Address("stats", {"kind": kind, "id": id_})
    assert topics.parse(topics.outcome(id_, model)) == Address("outcome", {"node": id_, "model": model})
    assert topics.parse(topics.dead_letter(id_)) == Address("dead letter", {"reason": id_})


@given(st.text(max_size=40) | st.text("sb/wrpsod+#$.~-a1", max_size=20).map(lambda text: f"sb/{text}"))
def test_whatever_is_written_a_topic_parses_or_is_a_decode_error(topic: str) -> None:
    try:
        assert all(Topics().parse(topic).levels.values())
    except DecodeError as error:
        assert "is not a topic under 'sb'" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "/",
        "sb",
        "sb/",
        "sb/w",
        "w/m/1.0/n",
        "sb/w/m/1.0",
        "sb/w/m/1.0/n/x",
        "sb/w/m/1.0/",
        "sb/w//1.0/n",
        "sb/w/m/1/n",
        "sb/w/m/1.0.0/n",
        "sb/w/m/01.0/n",
        "sb/w/m/1.0/+",
        "sb/w/m/1.0/#",
        "sb/w/+/1.0/n",
        "sb/#",
        "/sb/w/m/1.0/n",
        "sb/x/n",
        "xsb/r/n",
        "sb/r/a b",
        "sb/r/ä",
        "sb/r/n\n",
        "sb/r/\0",
        "sb/p/other/n",
        "sb/r/$n",
        "$share/g/sb/r/n",
        "sb/w/m/\u0661.\u0660/n",
        "sb/r/" + "n" * 65,
        "sb/r/" + "n" * 65_000,
        "SB/r/n",
        "sb//r/n",
    ],
)
def test_a_hostile_topic_is_refused_in_a_short_message(topic: str) -> None:
    with pytest.raises(DecodeError) as caught:
        Topics().parse(topic)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "value",
    [
        "",
        "/",
        "a/b",
        "+",
        "a+",
        "#",
        "a#",
        "$SYS",
        "$share",
        ".a",
        "-a",
        "_a",
        "a" * 65,
        "é",
        "\u0430",
        "a b",
        "a\n",
        "\0",
        "a~b",
        "\u0661",
    ],
)
def test_what_cannot_be_a_level_is_refused_by_name(value: str) -> None:
    with pytest.raises(ConfigError, match=r"node id .* cannot be a topic level; use 1 to 64"):
        check_id(value, "node id")
    with pytest.raises(ConfigError, match="topic root"):
        Topics(value)


@given(ids)
def test_a_good_id_is_handed_back(value: str) -> None:
    assert check_id(value, "node id") == value


def test_each_shared_filter_has_a_group_of_its_own() -> None:
    names = ["a", "b", "a.1", "1"]
    shared = [
        Topics(root).work_shared(model, line).split("/", 2)
        for root in names
        for model in names
        for line in ("1.1", "1.11", "11.1")
    ]
    filters_by_group: dict[str, set[str]] = {}
    for share, group, topic_filter in shared:
        assert share == "$share"
        assert not set(group) & set("/+#")
        filters_by_group.setdefault(group, set()).add(topic_filter)
    assert all(len(filters) == 1 for filters in filters_by_group.values())
    assert len(filters_by_group) == len(shared)


def test_filters_name_their_topics_with_a_wildcard_in_the_place_of_the_id() -> None:
    topics = Topics("plant")
    assert topics.work_shared("m", "1.0").endswith(topics.work("m", "1.0", "+"))
    assert topics.presence_of_all("edge") == topics.presence("edge", "+")


def test_letters_of_topics_are_one_byte_each() -> None:
    topic = Topics().work("m", "1.0", "n")
    assert topic == "sb/w/m/1.0/n"
    assert set(topic) <= set(string.ascii_lowercase + string.digits + "./")
