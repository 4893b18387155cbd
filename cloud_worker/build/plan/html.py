"""A plan as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from cloud_worker.build.plan.ranking import Plan, Ranked
from cloud_worker.build.plan.rows import Row, link_text, places_text, row_of, verdict
from cloud_worker.build.plan.svg import curve

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d232a; --paper: #fff; --line: #d5dae0; --best: #e2f3e5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --paper: #15191d; --line: #3a424a; --best: #1e3a26; } }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
       font: 15px/1.5 system-ui, sans-serif; }
svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); }
svg .best { font-weight: 700; }
svg .grid { stroke: var(--line); }
svg .late { stroke: var(--ink); }
svg .pale { opacity: 0.35; }
svg .chosen { fill: none; stroke: var(--ink); stroke-width: 2; }
div { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { vertical-align: bottom; }
.text { text-align: left; }
tr.best td { background: var(--best); font-weight: 600; }
tr.pale td { opacity: 0.55; }
"""
_COLUMNS: Final = {
    "split": "split",
    "cut": "cut",
    "name": "name",
    "macs": "MACs on the edge",
    "codec": "codec",
    "bytes": "bytes",
    "edge_ms": "edge compute, ms",
    "encode_ms": "encode, ms",
    "transfer_ms": "transfer, ms",
    "cloud_ms": "cloud compute, ms",
    "p50_ms": "p50, ms",
    "p95_ms": "p95, ms",
    "cost": "$ for 1,000",
    "kl": "KL, nats",
    "accuracy": "accuracy",
    "ssim": "SSIM leaked, at least",
    "correlation": "distance correlation",
    "score": "score",
    "note": "note",
}
_TEXTS: Final = ("split", "name", "codec", "note")


def page(plan: Plan) -> str:
    """The page: the verdict, the curve, the best of each cut, and every candidate by rank to unfold."""
    model = escape(plan.profile.model)
    facts = [f"over {link_text(plan.link)}", places_text(plan), _asked(plan)]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width">',
            f"<title>Where to split {model}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f"<h1>Where to split {model}</h1>",
            *(f"<p>{escape(fact)}</p>" for fact in facts),
            f"<p><strong>{escape(verdict(plan))}</strong></p>",
            curve(plan),
            "<h2>The best of each cut</h2>",
            _table(plan.by_cut(), plan.best),
            f"<details>\n<summary>All {len(plan.ranked)} candidates by rank</summary>",
            _table(plan.ranked, plan.best),
            "</details>\n</body>\n</html>\n",
        ]
    )


def _asked(plan: Plan) -> str:
    """Weights that count and limits that are set."""
    weights = [f"{name} {value:g}" for name, value in plan.objective.model_dump().items() if value]
    limits = [f"{name} {value:g}" for name, value in plan.constraints.model_dump(exclude_none=True).items()]
    return f"weights: {', '.join(weights)}; constraints: {', '.join(limits) or 'none'}"


def _table(ranked: Sequence[Ranked], best: Ranked) -> str:
    heads = "".join(f"<th{_kind(name)}>{escape(title)}</th>" for name, title in _COLUMNS.items())
    rows = "\n".join(_row(each, chosen=each is best) for each in ranked)
    return f"<div><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"


def _row(ranked: Ranked, *, chosen: bool) -> str:
    row: Row = row_of(ranked)
    cells = "".join(f"<td{_kind(name)}>{escape(getattr(row, name))}</td>" for name in _COLUMNS)
    style = ' class="best"' if chosen else "" if ranked.admissible else ' class="pale"'
    return f"<tr{style}>{cells}</tr>"


def _kind(name: str) -> str:
    return ' class="text"' if name in _TEXTS else ""
