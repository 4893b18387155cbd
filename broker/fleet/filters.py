"""Topic filters that a person typed (MQTT 5.0, section 4.7), checked before the broker sees them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

from schemas.errors import ConfigError

MAX_FILTER_BYTES: Final = 65_535


def check_filters(filters: Sequence[str]) -> tuple[str, ...]:
    """The filters as they are. Raises ConfigError when one is not valid, or when two of them share a topic."""
    for each in filters:
        _check(each)
    for one, other in combinations(filters, 2):
        if overlap(one, other):
            msg = f"the filters {one!r} and {other!r} share topics, so messages would show twice; leave one out"
            raise ConfigError(msg)
    return tuple(filters)


def overlap(one: str, other: str) -> bool:
    """Whether some topic falls under both of two valid filters."""
    ones, others = one.split("/"), other.split("/")
    wild = {"+", "#"}
    if (ones[0].startswith("$") and others[0] in wild) or (others[0].startswith("$") and ones[0] in wild):
        return False
    for left, right in zip(ones, others, strict=False):
        if "#" in {left, right}:
            return True
        if left != right and "+" not in {left, right}:
            return False
    longer = ones if len(ones) > len(others) else others
    return len(ones) == len(others) or longer[min(len(ones), len(others)) :] == ["#"]


def _check(topic_filter: str) -> None:
    problem = _problem(topic_filter)
    if problem:
        msg = f"{topic_filter[:200]!r} is not a topic filter: {problem}; write for example 'sb/w/#' or 'sb/+/cam-1'"
        raise ConfigError(msg)


def _problem(topic_filter: str) -> str:
    """Why it cannot be subscribed, or nothing."""
    levels = topic_filter.split("/")
    if not topic_filter or "\0" in topic_filter or not _fits(topic_filter):
        return f"it takes 1 to {MAX_FILTER_BYTES} bytes of UTF-8 without a zero character"
    if any("#" in level and level != "#" for level in levels) or "#" in levels[:-1]:
        return "'#' stands alone, as the last level"
    if any("+" in level and level != "+" for level in levels):
        return "'+' stands alone in its level"
    if levels[0] == "$share":
        return "a shared subscription would take frames away from the workers"
    return ""


def _fits(text: str) -> bool:
    try:
        return len(text.encode()) <= MAX_FILTER_BYTES
    except UnicodeEncodeError:
        return False
