"""The split-point curve as SVG, by hand: the stages of every cut, stacked, from the cloud to the edge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from cloud_worker.build.plan.candidates import Candidate
from cloud_worker.build.plan.ranking import Plan, Ranked
from schemas.policy import Route

COLOURS: Final = {
    "edge compute": "#2a9d8f",
    "encode": "#e9b44c",
    "transfer": "#d1495b",
    "cloud compute": "#3d6fa5",
}
_HEIGHT, _LEFT, _TOP, _BOTTOM = 400, 56, 56, 48
_LEAST_WIDTH, _PITCH, _MOST_LABELS = 720, 22, 32
_HEADROOM: Final = 1.6
"""How far above the slowest admissible bar the scale may reach; longer bars are cut off."""
_EXTREMES: Final = {Route.CLOUD_ONLY: "cloud", Route.EDGE_ONLY: "edge"}


@dataclass(frozen=True, slots=True)
class _Scale:
    """From milliseconds and places to pixels."""

    width: float
    bars: int
    step_ms: float
    top_ms: float

    @property
    def pitch(self) -> float:
        return (self.width - _LEFT - 12) / self.bars

    def x(self, place: int) -> float:
        return _LEFT + place * self.pitch + self.pitch * 0.12

    @property
    def bar(self) -> float:
        return self.pitch * 0.76

    def y(self, milliseconds: float) -> float:
        """Never above the top."""
        return _HEIGHT - _BOTTOM - min(milliseconds, self.top_ms) / self.top_ms * (_HEIGHT - _BOTTOM - _TOP)


def curve(plan: Plan) -> str:
    """One `<svg>`: a stacked bar for each cut's best operating point, at the medians, with a line up to p95.

    The chosen one is outlined and named; what is not admissible is pale. A bar that is much longer than the
    admissible ones is cut off at the top and says its length.
    """
    ranked = plan.by_cut()
    scale = _scale_of(ranked)
    parts = [*_axis(scale), *_legend()]
    for place, each in enumerate(ranked):
        parts += _bar(each, place, scale, chosen=each is plan.best)
        parts += _label(each.candidate, place, scale)
    title = f"Stages of every cut of {escape(plan.profile.model)}"
    box = f'viewBox="0 0 {scale.width:g} {_HEIGHT}" role="img" aria-label="{title}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n' + "\n".join(parts) + "\n</svg>"


def stages_of(candidate: Candidate) -> dict[str, float]:
    """Medians in milliseconds, by the legend's names."""
    stages = candidate.p50
    figures = (stages.edge_ms, stages.encode_ms, stages.transfer_ms, stages.cloud_ms)
    return dict(zip(COLOURS, figures, strict=True))


def _scale_of(ranked: Sequence[Ranked]) -> _Scale:
    longest = max(each.candidate.p95.total_ms for each in ranked)
    wanted = max(each.candidate.p95.total_ms for each in ranked if each.admissible) * _HEADROOM
    most = max(min(longest, wanted), 0.001)
    step = _nice_step(most)
    width = max(_LEAST_WIDTH, _LEFT + 12 + _PITCH * len(ranked))
    return _Scale(width, len(ranked), step, math.ceil(most / step) * step)


def _nice_step(most: float) -> float:
    """1, 2 or 5 times a power of ten, for five lines or so."""
    power = 10.0 ** math.floor(math.log10(most / 5))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= most / 5)


def _axis(scale: _Scale) -> Iterator[str]:
    for line in range(round(scale.top_ms / scale.step_ms) + 1):
        value, y = line * scale.step_ms, scale.y(line * scale.step_ms)
        yield f'<line class="grid" x1="{_LEFT}" x2="{scale.width - 12:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(_LEFT - 6, y + 4, f"{value:g}", anchor="end")
    yield _text(_LEFT - 6, _TOP - 16, "ms", anchor="end")
    yield _text((_LEFT + scale.width) / 2, _HEIGHT - 6, "cut, from the input to the output")


def _legend() -> Iterator[str]:
    x = _LEFT
    for name, colour in COLOURS.items():
        yield f'<rect x="{x}" y="8" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 17, 18, name, anchor="start")
        x += 30 + 8 * len(name)
    yield _text(x, 18, "line: p95; pale: not admissible", anchor="start")


def _bar(ranked: Ranked, place: int, scale: _Scale, *, chosen: bool) -> Iterator[str]:
    candidate, x = ranked.candidate, scale.x(place)
    total, late = candidate.p50.total_ms, candidate.p95.total_ms
    yield f'<g class="{"bar" if ranked.admissible else "bar pale"}"><title>{escape(_tip(ranked))}</title>'
    below = 0.0
    for name, value in stages_of(candidate).items():
        top, bottom = scale.y(below + value), scale.y(below)
        size = f'width="{scale.bar:.1f}" height="{bottom - top:.1f}"'
        yield f'<rect x="{x:.1f}" y="{top:.1f}" {size} fill="{COLOURS[name]}"/>'
        below += value
    middle = x + scale.bar / 2
    yield f'<line class="late" x1="{middle:.1f}" x2="{middle:.1f}" y1="{scale.y(late):.1f}" y2="{scale.y(total):.1f}"/>'
    yield "</g>"
    if total > scale.top_ms:
        yield _text(middle, _TOP - 4, f"{total:,.0f}")
    if chosen:
        size = f'width="{scale.bar + 4:.1f}" height="{scale.y(0) - scale.y(total) + 4:.1f}"'
        yield f'<rect class="chosen" x="{x - 2:.1f}" y="{scale.y(total) - 2:.1f}" {size}/>'
        yield _text(middle, max(scale.y(late) - 6, _TOP - 4), "best", kind="best")


def _label(candidate: Candidate, place: int, scale: _Scale) -> Iterator[str]:
    """Under its bar; where there are many, every second or third cut has one, and none beside an extreme."""
    extreme, every = _EXTREMES.get(candidate.site.route), math.ceil(scale.bars / _MOST_LABELS)
    if extreme is None and (place % every or (every > 1 and place == scale.bars - 2)):
        return
    yield _text(scale.x(place) + scale.bar / 2, scale.y(0) + 16, extreme or str(candidate.site.cut))


def _tip(ranked: Ranked) -> str:
    stages = ", ".join(f"{name} {value:.1f}" for name, value in stages_of(ranked.candidate).items())
    total, late = ranked.candidate.p50.total_ms, ranked.candidate.p95.total_ms
    misses = "".join(f"; {miss}" for miss in ranked.misses)
    return f"{ranked.candidate}: {total:.1f} ms, p95 {late:.1f} ms ({stages}){misses}"


def _text(x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "text") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
