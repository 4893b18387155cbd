"""A plan as a table in the terminal; the only module of the package that imports rich."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cloud_worker.build.plan.ranking import Plan, Ranked
from cloud_worker.build.plan.rows import Row, link_text, places_text, row_of, verdict

_WIDE: Final = 200
"""Where there is no terminal whose width would count."""
_TEXTS: Final = ("split", "cut", "codec", "note")
_SHOWN: Final = {
    "split": "split",
    "cut": "cut",
    "macs": "MACs",
    "codec": "codec",
    "bytes": "bytes",
    "edge_ms": "edge\nms",
    "encode_ms": "encode\nms",
    "transfer_ms": "transfer\nms",
    "cloud_ms": "cloud\nms",
    "p50_ms": "p50\nms",
    "p95_ms": "p95\nms",
    "cost": "$ for\n1,000",
    "kl": "KL\nnats",
    "accuracy": "accuracy",
    "ssim": "SSIM",
    "correlation": "dist.\ncorr.",
    "note": "",
}
_SOMETIMES: Final = ("kl", "accuracy", "ssim", "correlation", "note")
"""Columns that are left out when nothing stands in them."""
_DISPENSABLE: Final = ("correlation", "ssim", "accuracy", "macs", "encode_ms", "note", "cost", "kl", "p95_ms")
"""What a narrow terminal goes without, first first."""


def show(plan: Plan, *, everything: bool) -> None:
    """Print the best operating point of each cut, from the cloud to the edge, or every candidate by rank."""
    plain = Console(highlight=False, markup=False, emoji=False)
    console = plain if plain.is_terminal else Console(highlight=False, markup=False, emoji=False, width=_WIDE)
    ranked = plan.ranked if everything else plan.by_cut()
    columns = fitting(console, ranked, plan.best)
    console.print(f"{plan.profile.model} over {link_text(plan.link)}", soft_wrap=True)
    console.print(places_text(plan), soft_wrap=True)
    console.print(table(ranked, plan.best, columns))
    if left_out := [name for name in _filled(ranked) if name not in columns]:
        console.print(f"no room for {', '.join(left_out)}: a wider terminal, --report and --json show them")
    console.print(verdict(plan), soft_wrap=True)


def fitting(console: Console, ranked: Sequence[Ranked], best: Ranked) -> tuple[str, ...]:
    """The columns in which something stands, less what the console is too narrow for."""
    columns, unbounded = list(_filled(ranked)), console.options.update(width=10_000)
    for name in _DISPENSABLE:
        if Measurement.get(console, unbounded, table(ranked, best, columns)).maximum <= console.width:
            break
        if name in columns:
            columns.remove(name)
    return tuple(columns)


def table(ranked: Sequence[Ranked], best: Ranked, columns: Sequence[str]) -> Table:
    """One row for each: `>` is the best, `x` is not admissible. Times are medians unless they say p95."""
    made = Table("", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        text = name in _TEXTS
        wrapped = text and name != "split"
        made.add_column(_SHOWN[name], justify="left" if text else "right", no_wrap=not wrapped, overflow="fold")
    for each in ranked:
        mark = ">" if each is best else "" if each.admissible else "x"
        style = "bold green" if each is best else "" if each.admissible else "dim"
        made.add_row(mark, *(Text(_cell(row_of(each), name)) for name in columns), style=style)
    return made


def _filled(ranked: Sequence[Ranked]) -> tuple[str, ...]:
    """Names of the columns in which something stands."""
    rows = [row_of(each) for each in ranked]
    return tuple(
        name for name in _SHOWN if name not in _SOMETIMES or any(_cell(row, name) not in {"", "-"} for row in rows)
    )


def _cell(row: Row, name: str) -> str:
    text: str = getattr(row, name)
    return f"{text} {row.name}" if name == "cut" else text
