"""Each message in words, on one line: the facts that somebody looks for when watching a bus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from schemas.exit_gauges import PREFIX, exit_words
from schemas.messages import Answer, DeadLetter, Outcome, Presence, Reply, Served, Stats, Status, Work

SHORT: Final = 8
"""Digits of an interface that are enough for the eye."""
_SHOWN: Final = 8
_FEW: Final = 3
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def of_work(work: Work) -> str:
    """Point, time left, samples, bytes, interface."""
    count = len(work.payloads)
    size = sum(map(len, work.payloads))
    return (
        f"point {work.point}, {work.deadline_ms} ms left, {count} sample{'s' if count > 1 else ''}, {size} B, "
        f"interface {work.interface.hex()[:SHORT]}"
    )


def of_reply(reply: Reply) -> str:
    """Status and answers, or the reason why there are none; times; batch."""
    answers = f": {_few(map(_answer, reply.answers), _FEW)}" if reply.answers else ""
    detail = f" ({reply.detail})" if reply.detail else ""
    times = f"queue {reply.queue_us / 1e3:.1f} ms, compute {reply.compute_us / 1e3:.1f} ms, batch {reply.batch}"
    return f"{_status(reply.status)}{answers}{detail}; {times}"


def of_presence(presence: Presence) -> str:
    """State, what is served, session, software."""
    serves = _few(map(_served, presence.serves), _SHOWN) or "nothing"
    software = f", {presence.software}" if presence.software else ""
    return f"{presence.state}, serves {serves}, session {presence.session}{software}"


def of_stats(stats: Stats) -> str:
    """Uptime, counters that are not 0, gauges, and what a node's early exit promises."""
    counters = _few((f"{name} {count}" for name, count in stats.counters.items() if count), _SHOWN)
    shown = [(name, value) for name, value in stats.gauges.items() if not name.startswith(PREFIX)]
    gauges = _few((f"{name} {value:.4g}" for name, value in shown), _SHOWN)
    parts = [f"up {duration(stats.uptime_s)}", counters, gauges, exit_words(stats.gauges)]
    return "; ".join(part for part in parts if part)


def of_outcome(outcome: Outcome) -> str:
    """Label, confidence, who answered by which route, time, bytes."""
    return (
        f"{_label(outcome)}, {outcome.route} by {outcome.source}, cloud {outcome.cloud_status}, "
        f"{outcome.times_ms.total:.1f} ms, {outcome.bytes_up} B up {outcome.bytes_down} B down; {outcome.reason}"
    )


def of_dead_letter(letter: DeadLetter) -> str:
    """Who refused what from where, and why."""
    return f"{letter.worker} refused {letter.size} B from {letter.topic}: {_status(letter.status)}, {letter.detail}"


def duration(seconds: float) -> str:
    """Seconds as people say them: `42 s`, `3 min 5 s`, `2 d 1 h`."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def _label(outcome: Outcome) -> str:
    if outcome.label is None:
        return "no answer"
    label = f"{outcome.label_name} ({outcome.label})" if outcome.label_name else f"label {outcome.label}"
    return f"{label} {outcome.confidence:.1%}"


def _status(status: Status) -> str:
    return status.name.lower().replace("_", " ")


def _answer(answer: Answer) -> str:
    return f"label {answer.label} {answer.confidence:.1%}"


def _served(served: Served) -> str:
    return f"{served.model} {served.line} ({served.version}, interface {served.interface[:SHORT]})"


def _few(parts: Iterable[str], limit: int) -> str:
    """The first of them, and how many more there are."""
    listed = list(parts)
    more = len(listed) - limit
    return ", ".join([*listed[:limit], *([f"{more} more"] if more > 0 else [])])
