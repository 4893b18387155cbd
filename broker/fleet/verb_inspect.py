"""`fleet inspect`: every message of a bus, decoded live, one line each."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from broker.bus import Bus, Message, Subscription
from broker.exits import EXIT_BAD_INPUT
from broker.fleet.backlog import Backlog
from broker.fleet.filters import check_filters
from broker.fleet.options import BROKER_OPTIONS
from broker.fleet.rendering import json_of, line_of
from broker.fleet.sightings import sight
from broker.fleet.text import Paint
from broker.link import Link, LinkConfig
from broker.options import Option, Table, add_arguments, flag, read_options, whole
from broker.process import run_process, until_stopped
from schemas.errors import ConfigError
from schemas.topics import Topics

PROG: Final = "fleet inspect"
OPTIONS: Final[Table] = {
    **BROKER_OPTIONS,
    "count": Option(whole(1, 10**12), None, "end after so many messages"),
    "json": flag("one JSON object a line"),
    "payload": flag("show the message's bytes too, in hex"),
    "no-color": flag("no colours; there are none either without a terminal, or with NO_COLOR"),
}
_INBOX: Final = 4096
_LAST_WORDS_S: Final = 2.0
_UNREADABLE: Final = "not readable"


@dataclass(frozen=True, slots=True)
class View:
    """How messages are to be shown."""

    topics: Topics
    paint: Paint
    as_json: bool
    payload: bool
    count: int | None

    def line(self, message: Message, counts: Counter[str]) -> str:
        """One message as a line; its kind, and whether it is readable, are counted."""
        seen = sight(message, self.topics)
        counts[seen.what] += 1
        if seen.problem:
            counts[_UNREADABLE] += 1
        if self.as_json:
            return json_of(seen, time.time(), payload=self.payload)
        return line_of(seen, time.time(), self.paint, payload=self.payload)

    def notice(self, skipped: int) -> str:
        """The line that stands where lines are missing."""
        if self.as_json:
            return json.dumps({"kind": "skipped", "count": skipped})
        return self.paint(f"... {skipped} messages not shown: they come faster than this output takes them", "yellow")


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `inspect` to the verbs."""
    parser = verbs.add_parser("inspect", help="show every message, decoded, as it comes", description=__doc__)
    parser.add_argument("filters", metavar="FILTER", nargs="*", help="topic filter, quoted: 'sb/#' (the default)")
    add_arguments(parser, OPTIONS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show messages until Ctrl-C, `--count` or a closed pipe; 2 when input or broker cannot be used."""
    try:
        options = read_options(OPTIONS, arguments, os.environ)
        filters = check_filters(arguments.filters or [f"{options['root'].root}/#"])
    except ConfigError as error:
        sys.stderr.write(f"{PROG}: error: {error}\n")
        return EXIT_BAD_INPUT
    return run_process(PROG, lambda stop: inspect(filters, options, stop), log_level=options["log-level"])


async def inspect(filters: Sequence[str], options: Mapping[str, Any], stop: asyncio.Event) -> None:
    """Connect and show until `stop` is set.

    Raises BrokerUnavailableError or BrokerRefusedError when the broker cannot be used; later the connection is
    restored for as long as it takes.
    """
    view = View(options["root"], _paint(options), options["json"], options["payload"], options["count"])
    async with Link(LinkConfig(options["broker"], f"fleet-inspect-{secrets.token_hex(4)}")) as link:
        await until_stopped(stop, link.wait_connected(options["connect-timeout"]))
        if not stop.is_set():
            await show(link, filters, view, stop)


async def show(bus: Bus, filters: Sequence[str], view: View, stop: asyncio.Event) -> None:
    """Show what comes under the filters until `stop` is set, and sum it up on stderr."""
    loop = asyncio.get_running_loop()
    backlog = Backlog(sys.stdout.fileno(), view.notice, lambda: loop.call_soon_threadsafe(stop.set))
    counts: Counter[str] = Counter()
    began = time.monotonic()
    try:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            feeds = [await stack.enter_async_context(bus.subscribe(each, limit=_INBOX)) for each in filters]
            tasks = [group.create_task(_follow(feed, view, backlog, counts, stop), name=feed.filter) for feed in feeds]
            await stop.wait()
            for task in tasks:
                task.cancel()
    finally:
        complete = backlog.close(_LAST_WORDS_S)
    cut = "" if complete else "; the output did not take all of it"
    sys.stderr.write(f"{PROG}: {_summary(counts, backlog.skipped, time.monotonic() - began)}{cut}\n")


async def _follow(feed: Subscription, view: View, backlog: Backlog, counts: Counter[str], stop: asyncio.Event) -> None:
    dropped = 0
    async for delivery in feed:
        delivery.ack()
        lost = feed.statistics().dropped - dropped
        dropped += lost
        if lost:
            backlog.skip(lost)
        if backlog.has_room:
            backlog.put(view.line(delivery.message, counts))
        else:
            backlog.skip(1)
        if view.count is not None and _shown(counts) >= view.count:
            stop.set()
        if stop.is_set():
            return


def _shown(counts: Counter[str]) -> int:
    return counts.total() - counts[_UNREADABLE]


def _summary(counts: Counter[str], skipped: int, seconds: float) -> str:
    shown = _shown(counts)
    kinds = ", ".join(f"{count} {what}" for what, count in counts.items() if what != _UNREADABLE)
    parts = [f"{shown} message{'' if shown == 1 else 's'} in {seconds:.1f} s" + (f": {kinds}" if kinds else "")]
    if counts[_UNREADABLE]:
        parts.append(f"{counts[_UNREADABLE]} of them not readable")
    if skipped:
        parts.append(f"{skipped} more not shown")
    return "; ".join(parts)


def _paint(options: Mapping[str, Any]) -> Paint:
    """Colours for a terminal that wants them (https://no-color.org)."""
    plain = options["no-color"] or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return Paint(sys.stdout.isatty() and not plain)
