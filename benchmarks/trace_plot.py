"""The trace benchmark as a picture: the link, each request of the router, and the loss as it adds up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from benchmarks.trace_link import Phase

_COLOURS = {"edge": "#2b8a3e", "hybrid_split": "#08519c", "cloud_only": "#d9480f"}
_NAMES = {"edge": "answers on the edge", "hybrid_split": "splits", "cloud_only": "sends the input"}
_LINES = ("#08519c", "#2b8a3e", "#d9480f", "#8d1d3f")
_GREY = "#555555"


class _Answer(Protocol):
    @property
    def at_s(self) -> float: ...
    @property
    def way(self) -> str: ...
    @property
    def outcome(self) -> Any: ...
    def loss(self) -> float: ...


class _Run(Protocol):
    @property
    def answers(self) -> Sequence[_Answer]: ...


def draw(runs: Mapping[str, Any], trace: Sequence[Phase], path: Path) -> None:
    """Write a PNG; the first of the runs is the router's."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only plots need it

    figure = Figure(figsize=(10.5, 6.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1.0))
    figure.subplots_adjust(left=0.08, right=0.98, top=0.84, bottom=0.09, hspace=0.12)
    router, *_ = runs.values()
    _requests(above, router)
    _losses(below, runs)
    _phases((above, below), trace)
    figure.text(0.02, 0.955, "The router follows the link", fontsize=15, fontweight="bold", va="center")
    saying = "Every request of one node over a trace, and the loss of four policies as it adds up on the same requests"
    figure.text(0.02, 0.915, saying, fontsize=10.5, color=_GREY, va="center")
    figure.savefig(path, dpi=150)


def _requests(axes: Any, run: _Run) -> None:
    for way, colour in _COLOURS.items():
        mine = [each for each in run.answers if each.way == way]
        times = [max(0.1, each.outcome.times_ms.total) for each in mine]
        axes.scatter([each.at_s for each in mine], times, s=5, color=colour, label=_NAMES[way], linewidths=0)
    axes.set_yscale("log")
    axes.set_ylabel("latency of each request, ms")
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.3), fontsize=8, frameon=True, markerscale=3)


def _losses(axes: Any, runs: Mapping[str, _Run]) -> None:
    for (name, run), colour in zip(runs.items(), _LINES, strict=True):
        ordered = sorted(run.answers, key=lambda each: each.at_s)
        total = [each / 1e3 for each in accumulate(answer.loss() for answer in ordered)]
        axes.plot([each.at_s for each in ordered], total, color=colour, linewidth=1.6, label=f"{name}: {total[-1]:.0f}")
    axes.set_ylabel("loss so far, thousands")
    axes.set_xlabel("seconds")
    axes.legend(loc="upper left", fontsize=8, frameon=False)


def _phases(all_axes: Sequence[Any], trace: Sequence[Phase]) -> None:
    begun = 0.0
    for number, phase in enumerate(trace):
        for axes in all_axes:
            axes.spines[["top", "right"]].set_visible(False)
            if number % 2:
                axes.axvspan(begun, begun + phase.seconds, color="#f1f3f5", zorder=0, linewidth=0)
        what = "nothing arrives" if phase.link is None else f"{phase.link.rtt_ms:g} ms, {phase.link.up_mbit:g} Mbit/s"
        place = {"transform": all_axes[0].get_xaxis_transform(), "ha": "center", "va": "bottom"}
        middle = begun + phase.seconds / 2
        all_axes[0].text(middle, 1.07, phase.name, fontsize=9.5, fontweight="bold", **place)
        all_axes[0].text(middle, 1.015, what, fontsize=8, color=_GREY, **place)
        begun += phase.seconds
    all_axes[-1].set_xlim(0, begun)
