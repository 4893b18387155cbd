"""Topic filters against the examples of MQTT 5.0, sections 4.7 and 4.8.2, and against their definition."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.matching import matches, split_share

LEVEL = st.sampled_from(["a", "b", "", "sport", "$x", "é"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=5).map("/".join).filter(bool)


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("sport/#", "sport"),
        ("#", "anything/at/all"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("+/tennis/#", "sport/tennis/x/y"),
        ("sport/+/player1", "sport/tennis/player1"),
        ("$SYS/#", "$SYS/monitor/Clients"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ("ACCOUNTS", "ACCOUNTS"),
    ],
)
def test_the_standards_examples_that_match(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("#", "$SYS/monitor"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("ACCOUNTS", "Accounts"),
        ("/finance", "finance"),
        ("a", "a/"),
        ("a/b", "a"),
    ],
)
def test_the_standards_examples_that_do_not_match(topic_filter: str, topic: str) -> None:
    assert not matches(topic_filter, topic)


@given(TOPIC)
def test_a_topic_matches_itself_and_its_parents_wildcard(topic: str) -> None:
    assert matches(topic, topic)
    assert matches(f"{topic}/#", topic)
    assert matches(f"{topic}/#", f"{topic}/child")
    assert matches(f"{topic}/+", f"{topic}/child")
    assert not matches(f"{topic}/+", topic)


@given(st.lists(st.sampled_from(["a", "b", "", "+"]), min_size=1, max_size=5), TOPIC, st.booleans())
def test_a_match_is_what_the_same_regular_expression_says(levels: list[str], topic: str, rest: bool) -> None:  # noqa: FBT001
    pattern = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels)
    topic_filter = "/".join(levels) + ("/#" if rest else "")
    hidden = topic.startswith("$") and levels[0] == "+"
    expected = re.fullmatch(pattern + ("(/.*)?" if rest else ""), topic) is not None and not hidden
    assert matches(topic_filter, topic) is expected


@pytest.mark.parametrize(
    ("topic_filter", "parts"),
    [
        ("$share/consumer1/sport/tennis/+", ("consumer1", "sport/tennis/+")),
        ("$share/consumer2//finance", ("consumer2", "/finance")),
        ("sport/tennis/+", (None, "sport/tennis/+")),
        ("$SYS/#", (None, "$SYS/#")),
    ],
)
def test_a_shared_filter_is_its_group_and_the_rest(topic_filter: str, parts: tuple[str | None, str]) -> None:
    assert split_share(topic_filter) == parts
