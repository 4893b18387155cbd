"""Topic filters, as MQTT 5 section 4.7 and 4.8.2 define them."""

from __future__ import annotations

SHARE_LEVELS = 3


def split_share(topic_filter: str) -> tuple[str | None, str]:
    """Group and filter of `$share/{group}/{filter}`; no group for any other filter."""
    if topic_filter.startswith("$share/"):
        _, group, rest = topic_filter.split("/", SHARE_LEVELS - 1)
        return group, rest
    return None, topic_filter


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic falls under a filter without `$share`."""
    wanted, given = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(given) or level not in {"+", given[index]}:
            return False
    return len(wanted) == len(given)
