"""Filters that a person typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.fleet.filters import check_filters, overlap
from broker.matching import matches
from schemas.errors import ConfigError


@pytest.mark.parametrize(
    "filters",
    [["sb/#"], ["#"], ["+"], ["sb/+/cam-1", "sb/w/+/1.0/cam-2"], ["$SYS/#", "#"], ["sb/w/#", "sb/r/+"], ["/"]],
)
def test_filters_that_share_no_topic_are_taken(filters: list[str]) -> None:
    assert check_filters(filters) == tuple(filters)


@pytest.mark.parametrize(
    ("topic_filter", "why"),
    [
        ("", "1 to 65535 bytes"),
        ("a\0b", "zero character"),
        ("x" * 65_536, "1 to 65535 bytes"),
        ("\ud800", "UTF-8"),
        ("sb/#/w", "last level"),
        ("sb#", "stands alone"),
        ("sb/w+", "'\\+' stands alone"),
        ("$share/g/sb/#", "away from the workers"),
    ],
)
def test_a_filter_that_mqtt_does_not_know_is_refused(topic_filter: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        check_filters([topic_filter])


@pytest.mark.parametrize("filters", [["sb/#", "sb/w/#"], ["sb/#", "sb"], ["a/+", "+/b"], ["x", "x"]])
def test_filters_that_share_topics_are_refused(filters: list[str]) -> None:
    with pytest.raises(ConfigError, match="leave one out"):
        check_filters(filters)


levels = st.lists(st.sampled_from(["a", "b", "+", "$c"]), min_size=1, max_size=3)
filters = st.builds(lambda parts, rest: "/".join(parts + rest), levels, st.sampled_from([[], ["#"]]))


@given(filters, filters, st.lists(st.sampled_from(["a", "b", "$c", ""]), min_size=1, max_size=4))
def test_a_topic_under_two_filters_is_an_overlap(one: str, other: str, topic: list[str]) -> None:
    name = "/".join(topic)
    if matches(one, name) and matches(other, name):
        assert overlap(one, other)
    assert overlap(one, other) == overlap(other, one)


@given(filters, filters)
def test_an_overlap_has_a_topic(one: str, other: str) -> None:
    if overlap(one, other):
        assert any(matches(one, name) and matches(other, name) for name in _candidates())


def _candidates() -> list[str]:
    names = [["a"], ["b"], ["$c"]]
    found = list(names)
    for _ in range(4):
        names = [[*name, level] for name in names[:81] for level in ("a", "b", "$c")]
        found += names
    return ["/".join(name) for name in found]
