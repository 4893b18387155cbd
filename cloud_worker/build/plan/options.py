"""Options of `cloud-worker plan`: link, prices, objective and constraints, from the command line or the environment."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from broker.options import Option, Table, flag, number, read_options
from cloud_worker.build.plan.network import LINKS, Link
from cloud_worker.build.plan.ranking import Constraints, Objective
from schemas.errors import ConfigError
from schemas.policy import Prices
from schemas.record import explain

_MS_AN_HOUR: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Planning:
    """For what link, and by what measure, a plan is made."""

    link: Link
    prices: Prices
    objective: Objective
    constraints: Constraints


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Everything that `cloud-worker plan` was told; checked."""

    profile: Path
    link: Link
    prices: Prices
    objective: Objective
    constraints: Constraints
    report: Path | None
    as_json: bool
    everything: bool


def _link_named(text: str) -> Link:
    link = LINKS.get(text.upper())
    if link is None:
        msg = f"{text!r} is none of {', '.join(LINKS)}"
        raise ValueError(msg)
    return link


def file_named(text: str) -> Path:
    """Reads the name of a file that may be there or not. Raises ValueError."""
    path = Path(text)
    if not path.name or path.is_dir():
        msg = f"{text!r} is not the name of a file"
        raise ValueError(msg)
    return path


_RATE: Final = number(0.001, 1e6)
_LINK: Final[Table] = {
    "profile-link": Option(_link_named, "4G", f"the link, where nothing else is said of it: {', '.join(LINKS)}"),
    "rtt-ms": Option(number(0, 100_000), None, "round trip in ms"),
    "up-mbit": Option(_RATE, None, "from the node, in Mbit/s"),
    "down-mbit": Option(_RATE, None, "to the node, in Mbit/s"),
    "loss": Option(number(0, 0.5), None, "share of TCP segments that are lost, in either direction"),
}
_CONSTRAINTS: Final[Table] = {
    "max-latency-ms": Option(number(0, 1e9), None, "at most this latency, p95"),
    "max-bytes": Option(number(0, 1e12), None, "at most so many bytes an inference, p95, both directions"),
    "max-frame-bytes": Option(number(0, 1e12), "65536", "at most so many in one frame: the cap of broker and worker"),
    "max-cost-per-1000": Option(number(0, 1e9), None, "at most so many dollars for 1,000 inferences"),
    "max-kl": Option(number(0, 1e6), None, "at most this KL divergence from the unsplit model, nats"),
    "min-accuracy": Option(number(0, 1), None, "at least this accuracy, 0 to 1"),
    "max-edge-share": Option(number(0, 1), None, "at most this share of multiply-accumulates on the edge, 0 to 1"),
    "max-edge-ms": Option(number(0, 1e9), None, "at most so long on the edge, head and encoding, p95"),
    "max-ssim": Option(number(0, 1), None, "at most this likeness (SSIM) of what the payload shows of the input"),
}
_WEIGHTS: Final[Table] = {
    "weight-latency": Option(number(0, 1e6), "1", "score for 100 ms"),
    "weight-cost": Option(number(0, 1e6), "1", "score for $0.10 for 1,000 inferences"),
    "weight-bytes": Option(number(0, 1e6), "0", "score for 1,000 bytes, which the cost has already"),
    "weight-quality": Option(number(0, 1e6), "1", "score for 0.1 nats of KL, or for 1 % of accuracy lost"),
    "weight-edge": Option(number(0, 1e6), "0", "score for the whole model's multiply-accumulates on the edge"),
}
_PRICES: Final[Table] = {
    "price-cloud-hour": Option(number(0, 1e6), "1", "dollars for an hour of a worker"),
    "price-megabyte": Option(number(0, 1e6), "0.1", "dollars for 10**6 bytes over the link"),
    "price-million-messages": Option(number(0, 1e6), "1", "dollars for a million messages"),
}
PLANNING: Final[Table] = {**_LINK, **_CONSTRAINTS, **_WEIGHTS, **_PRICES}
"""What a plan is made by, whatever command makes it."""
OPTIONS: Final[Table] = {
    **PLANNING,
    "report": Option(file_named, None, "write an HTML page with the curve and the table"),
    "json": flag("print one JSON object with every candidate instead of the table"),
    "all": flag("show every operating point, not the best of each cut"),
}


def plan_options(arguments: argparse.Namespace, environment: Mapping[str, str]) -> PlanOptions:
    """Checked options. Raises ConfigError, naming the option or the variable, for a value that cannot be used."""
    value = read_options(OPTIONS, arguments, environment)
    return PlanOptions(
        profile=Path(arguments.profile),
        link=_link(value),
        prices=_prices(value),
        objective=_objective(value),
        constraints=_constraints(value),
        report=value["report"],
        as_json=value["json"],
        everything=value["all"],
    )


def planning_of(value: Mapping[str, Any]) -> Planning:
    """From the values of the options PLANNING. Raises ConfigError where they do not fit together."""
    return Planning(_link(value), _prices(value), _objective(value), _constraints(value))


def _link(value: Mapping[str, Any]) -> Link:
    """The named link, with what is said otherwise."""
    named: Link = value["profile-link"]
    told = {
        "rtt_ms": value["rtt-ms"],
        "up_mbit_s": value["up-mbit"],
        "down_mbit_s": value["down-mbit"],
        "loss": value["loss"],
    }
    return named.model_copy(update={name: each for name, each in told.items() if each is not None})


def _prices(value: Mapping[str, Any]) -> Prices:
    return Prices(
        per_cloud_ms=value["price-cloud-hour"] / _MS_AN_HOUR,
        per_megabyte=value["price-megabyte"],
        per_message=value["price-million-messages"] / 1e6,
    )


def _objective(value: Mapping[str, Any]) -> Objective:
    try:
        return Objective(
            latency=value["weight-latency"],
            cost=value["weight-cost"],
            bytes=value["weight-bytes"],
            quality=value["weight-quality"],
            edge_macs=value["weight-edge"],
        )
    except ValidationError as error:
        msg = f"--weight-...: {explain(error)}"
        raise ConfigError(msg) from None


def _constraints(value: Mapping[str, Any]) -> Constraints:
    return Constraints(
        max_latency_p95_ms=value["max-latency-ms"],
        max_bytes_p95=value["max-bytes"],
        max_frame_bytes=value["max-frame-bytes"],
        max_cost_per_1000=value["max-cost-per-1000"],
        max_kl_nats=value["max-kl"],
        min_accuracy=value["min-accuracy"],
        max_edge_macs_share=value["max-edge-share"],
        max_edge_ms_p95=value["max-edge-ms"],
        max_ssim=value["max-ssim"],
    )
