"""Options of `cloud-worker build` about what is learnt (`--fit`) and what is promised of the early exit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.options import Option, Table, flag, number, whole
from schemas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Fitting:
    """What is learnt from what, and where its progress is kept."""

    folder: Path
    samples: Path | None
    """A folder of their own; else a part of --samples."""
    targets: Path | None
    start: Path | None
    epochs: int
    batch: int
    channels: int
    rate_weight: float
    peak_lr: float
    flip: bool
    tokens: bool
    bfloat16: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Promise:
    """At most `alpha` wrong among the exit's sure answers, with confidence 1 - `delta`."""

    alpha: float
    delta: float


def folder_named(text: str) -> Path:
    """Reads the name of a folder that may be there or not. Raises ValueError."""
    path = Path(text)
    if not path.name or path.is_file():
        msg = f"{text!r} is not the name of a folder"
        raise ValueError(msg)
    return path


_PROBABILITY: Final = number(1e-6, 0.5)
FITTING: Final[Table] = {
    "fit": Option(
        folder_named,
        None,
        "learn a bottleneck and an early exit; this folder keeps progress, run again to go on",
    ),
    "fit-samples": Option(Path, None, "folder of samples to learn from; without it a half of --samples"),
    "fit-targets": Option(Path, None, "text file with each of --fit-samples' class; else sub-folders are classes"),
    "fit-start": Option(Path, None, "fitted.pt of an earlier fit to begin from"),
    "epochs": Option(whole(1, 10_000), "10", "passes over the samples that are learnt from"),
    "batch": Option(whole(2, 65_536), "128", "samples of one step"),
    "channels": Option(whole(1, 4096), "8", "of the learnt cut"),
    "rate-weight": Option(number(0, 1e3), "0.0001", "price of a bit of the learnt cut; higher gives fewer bytes"),
    "peak-lr": Option(number(1e-6, 10), "0.05", "highest learning rate"),
    "flip": flag("also learn from images mirrored left to right"),
    "tokens": flag("a cut of two dimensions is (tokens, features), as in a transformer"),
    "bfloat16": flag("learn with bfloat16, about twice as fast where the processor has instructions for it"),
    "seed": Option(whole(0, 2**31), "0", "of everything that is drawn while learning"),
}
PROMISE: Final[Table] = {
    "alpha": Option(_PROBABILITY, "0.02", "share of the exit's sure answers that may be wrong"),
    "delta": Option(_PROBABILITY, "0.05", "chance that the promise does not hold"),
}


def fitting_of(value: Mapping[str, Any]) -> Fitting | None:
    """What is to be learnt, None for nothing. Raises ConfigError for an option that needs --fit."""
    if value["fit"] is None:
        needless = next((name for name in ("fit-samples", "fit-targets", "fit-start") if value[name] is not None), None)
        if needless is not None:
            msg = f"--{needless} goes with --fit; name a folder for what is learnt with --fit"
            raise ConfigError(msg)
        return None
    if value["fit-targets"] is not None and value["fit-samples"] is None:
        msg = "--fit-targets goes with --fit-samples; classes of --samples are said with --targets"
        raise ConfigError(msg)
    return Fitting(
        folder=value["fit"],
        samples=value["fit-samples"],
        targets=value["fit-targets"],
        start=value["fit-start"],
        epochs=value["epochs"],
        batch=value["batch"],
        channels=value["channels"],
        rate_weight=value["rate-weight"],
        peak_lr=value["peak-lr"],
        flip=value["flip"],
        tokens=value["tokens"],
        bfloat16=value["bfloat16"],
        seed=value["seed"],
    )


def promise_of(value: Mapping[str, Any]) -> Promise:
    """What the exit's threshold has to keep to."""
    return Promise(value["alpha"], value["delta"])
