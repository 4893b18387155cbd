"""What a build came to: as lines for the terminal, and as one HTML page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from cloud_worker.build.build_options import BuildOptions
from cloud_worker.build.int8_trial import Int8Tried
from cloud_worker.build.make import Built, Chosen
from cloud_worker.build.plan.html import STYLE, page
from cloud_worker.build.plan.rows import link_text
from cloud_worker.build.samples.files import IMAGES
from cloud_worker.build.self_test import Answered, Tried
from schemas.bundle import HEAD_INT8
from schemas.leakage import Leakage
from schemas.policy import Route

_AGREES: Final = 0.95
"""Agreement at which sizes are compared."""
_BROKER: Final = "mqtt://127.0.0.1:1883"


def summary(built: Built, options: BuildOptions) -> list[str]:
    """What was chosen and why, what it is worth, and how to run it."""
    return [
        *_facts(built, options),
        "",
        *(f"  {_point(each, built)}" for each in built.trial.points),
        "",
        *_commands(built, options),
    ]


def _facts(built: Built, options: BuildOptions) -> list[str]:
    manifest, cut = built.manifest, built.chosen.cut
    heads = ", ".join(f"{name} (off by {off:.1e})" for name, off in sorted(built.trial.heads.items()))
    lines = [
        f"{options.out}: {manifest.name} {manifest.edge_version}, interface {manifest.interface[:16]}",
        f"cut {cut.index} after {cut.name}: {_crossing(built)}",
        f"why there: {_why(built.chosen)}{_when(built)}",
        f"heads: {heads}",
        *([] if built.trial.int8 is None else [_int8(built.trial.int8)]),
        *(f"no {name}: {reason}" for name, reason in sorted(built.parts.heads.refused.items())),
        *(f"left out: {each}" for rates in built.parts.rates for each in rates.left_out),
        beside_the_input(built),
    ]
    if built.trial.full_accuracy is not None:
        lines.append(f"accuracy of the unsplit model on the held-out samples: {built.trial.full_accuracy:.1%}")
    return [*lines, *exit_lines(built)]


def _crossing(built: Built) -> str:
    halves, profile = built.parts.halves, built.manifest.profile
    if halves.learnt is None:
        return f"{halves.cut} crosses, {built.chosen.cut.share:.1%} of the multiply-accumulates are edge's"
    return (
        f"a learnt bottleneck makes {halves.cut} of {built.chosen.cut.spec}; the head with its exit takes "
        f"{profile.head_macs:,} multiply-accumulates, the tail {profile.tail_macs:,}, the unsplit model "
        f"{profile.full_macs:,}"
    )


def exit_lines(built: Built) -> list[str]:
    """What the early exit is worth and what is promised of it; nothing where there is none."""
    found, tried = built.parts.answers.exit, built.trial.exit
    if found is None or tried is None:
        return []
    against = "the true classes" if built.parts.answers.mode == "labels" else "the unsplit model's answers"
    promise = found.certificate
    told = (
        f"certified against {against}: at most {promise.alpha:.1%} wrong among its sure answers, with "
        f"{1 - promise.delta:.0%} confidence"
        if promise
        else f"not certified ({found.cannot}); the node's policy says how sure is sure enough"
    )
    sure = "none" if tried.sure is None else _answered(tried.sure)
    worth = f"{_answered(tried.everywhere)} if it answered everywhere"
    return [
        f"exit: {worth}; sure of {tried.coverage:.1%} at {tried.threshold:.3g}, of these {sure}",
        f"exit: {told}; calibration error {found.ece_before:.1%}, {found.ece_after:.1%} after temperature scaling",
    ]


def _answered(found: Answered) -> str:
    right = "" if found.accuracy is None else f", accuracy {found.accuracy:.1%}"
    return f"agreement {found.agreement:.1%}{right}"


def _why(chosen: Chosen) -> str:
    if chosen.plan is None or chosen.best is None:
        return "it was named with --cut"
    each, first = chosen.best.candidate, chosen.plan.best
    told = (
        f"the best cut over {link_text(chosen.plan.link)}, through {each.codec}: {each.p50.total_ms:.1f} ms, p95 "
        f"{each.p95.total_ms:.1f} ms, {each.bytes_mean:,.0f} bytes both ways, ${each.cost_per_1000:.4f} for 1,000"
    )
    if first is chosen.best:
        return f"{told}, better than all in the cloud and all on the edge"
    if first.candidate.site.route is Route.HYBRID_SPLIT:
        return f"{told}; {first.candidate} would score better, but no edge runtime takes its head"
    return f"{told}; {first.candidate} would score better ({first.candidate.p50.total_ms:.1f} ms), but a bundle is cut"


def _when(built: Built) -> str:
    """Figures of a plan are those of the model's own halves."""
    planned = built.chosen.best is not None and built.parts.halves.learnt is not None
    return "; all that before anything was learnt" if planned else ""


def beside_the_input(built: Built) -> str:
    """The cut's bytes beside the input's, each at its smallest point that answers as the unsplit model does."""
    told = {
        "cut": [each for each in built.trial.points if each.point.part == "tail"],
        "input": [each for each in built.trial.points if each.point.part == "full"],
    }
    shown = [f"the {what} takes {_bytes_of(points)}" for what, points in told.items() if points]
    return f"as the unsplit model answers in {_AGREES:.0%} of the held-out samples or more: {', '.join(shown)}"


def _bytes_of(points: Sequence[Tried]) -> str:
    """Of the smallest point that agrees enough, else of the one that agrees most."""
    enough = [each for each in points if each.agreement >= _AGREES]
    if enough:
        return f"{min(each.bytes_mean for each in enough):,.0f} bytes"
    most = max(points, key=lambda each: each.agreement)
    return f"{most.bytes_mean:,.0f} bytes, for {most.agreement:.1%} alone"


def _point(each: Tried, built: Built) -> str:
    config = " ".join(
        f"{key}=({len(value)} values)" if isinstance(value, (list, tuple)) and len(value) > 1 else f"{key}={value}"
        for key, value in each.point.config.items()
    )
    accuracy = "" if each.accuracy is None else f", accuracy {each.accuracy:.1%}"
    what = f"point {each.point.id}: {each.point.part} through {each.point.codec} {config}".rstrip()
    told = f"{what}: {each.bytes_mean:,.0f} bytes, KL {each.kl_nats:.4f}, agreement {each.agreement:.1%}{accuracy}"
    if each.hybrid is not None:
        told = f"{told}; with the exit {_answered(each.hybrid)}"
    stored = built.manifest.point(each.point.id)
    return told if stored is None or stored.leakage is None else f"{told}, {leaks(stored.leakage)}"


def leaks(found: Leakage) -> str:
    """What a point leaks at least, in a few words; beside it what is got without a payload."""
    told = f"distance correlation {found.distance_correlation:.2f}" if found.distance_correlation is not None else "-"
    if found.ssim is not None and found.ssim_blind is not None:
        told = f"SSIM {found.ssim:.2f} ({found.ssim_blind:.2f} without a payload)"
    elif found.r2 is not None:
        told = f"{found.r2:.0%} of the variance, {told}"
    bound = f", which bounds nothing: {found.samples} samples" if found.few else ""
    return f"leaks at least {told}{bound}"


def _int8(each: Int8Tried) -> str:
    return (
        f"{HEAD_INT8} at point {each.point.id}: KL {each.kl_nats:.4f} from the float head, agreement "
        f"{each.agreement:.1%} where that has {each.float_agreement:.1%}; edge-node runs it with --runtime int8"
    )


def _commands(built: Built, options: BuildOptions) -> list[str]:
    out = shlex.quote(str(options.out))
    return [
        f"cloud-worker run --bundle {out} --broker {_BROKER} --trust-unsigned",
        f"edge-node run --bundle {out} --broker {_BROKER} --source {shlex.quote(example_source(built, options))}",
    ]


def example_source(built: Built, options: BuildOptions) -> str:
    """What of the samples an edge node reads by itself, a folder of images or an array (N, ...); else a stand-in."""
    name = built.samples.calibration.names[0]
    file, row, _ = name.partition("[")
    if Path(name).suffix.lower() in IMAGES:
        return str((options.samples / name).parent)
    return str(options.samples / file) if row and file.endswith(".npy") else "SAMPLES.npy"


def report(built: Built, options: BuildOptions) -> str:
    """The page: the facts, every point, the split of the samples, and the plan where one was made."""
    title = f"The bundle {escape(built.manifest.name)}"
    plan = page(built.chosen.plan).partition("<body>")[2] if built.chosen.plan else "</body>\n</html>\n"
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>",
            *(f"<p>{escape(line)}</p>" for line in _facts(built, options)),
            "<h2>Operating points, on held-out samples</h2>",
            _listed([_point(each, built) for each in built.trial.points]),
            "<h2>Samples</h2>",
            f"<p>{_dealt(built)}</p>",
            _folded("calibration", built.samples.calibration.names),
            _folded("held out", built.samples.held_out.names),
            *([_folded("to learn from", learning.names)] if (learning := built.samples.learning) else []),
            plan,
        ]
    )


def _dealt(built: Built) -> str:
    samples = built.samples
    learnt = f"{len(samples.learning)} to learn from, " if samples.learning else ""
    return (
        f"{learnt}{len(samples.calibration)} to calibrate on, {len(samples.held_out)} held out, of which "
        f"{built.trial.samples} were tried; {samples.repeated} left out because others have the same content. The "
        "content's SHA-256 decides."
    )


def _folded(title: str, names: Sequence[str]) -> str:
    return f"<details>\n<summary>{len(names)} {escape(title)}</summary>\n{_listed(names)}\n</details>"


def _listed(lines: Sequence[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(line)}</li>" for line in lines) + "\n</ul>"
