"""Options of `cloud-worker build`, from the command line or the environment."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from broker.options import Option, Table, flag, one_of, read_options, whole
from cloud_worker.build.fit_options import FITTING, PROMISE, Fitting, Promise, fitting_of, folder_named, promise_of
from cloud_worker.build.plan.options import PLANNING, Planning, file_named, planning_of
from schemas.bundle import NAME
from schemas.errors import ConfigError
from schemas.preprocess import Preprocess
from schemas.record import explain
from schemas.version import Version

_NEEDED: Final = ("model", "samples", "out")
_NAME_CHARS: Final = 63
_MOST_RATES: Final = 8


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Everything that `cloud-worker build` was told; checked."""

    model: str
    weights: Path | None
    samples: Path
    out: Path
    name: str
    version: str
    labels: Path | None
    targets: Path | None
    input_shape: tuple[int, ...] | None
    preprocess: Preprocess | None
    """None where the samples decide: an image for uint8, nothing for float32."""
    cut: str | None
    profile: Path | None
    planning: Planning
    most_samples: int
    rates: tuple[float, ...]
    """What each rate may cost, finest first; see `codecs.rates.harm`."""
    baselines: bool
    leakage: bool
    """Whether to measure what operating points show of the samples."""
    fitting: Fitting | None
    promise: Promise
    report: Path | None
    int8: bool
    """Whether to add an int8 TFLite head."""


def _shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d{1,5}(,\d{1,5}){0,5}", text) or 0 in (found := tuple(map(int, text.split(",")))):
        msg = f"{text!r} is no shape of one input; write it as in 3,224,224"
        raise ValueError(msg)
    return found


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        msg = f"{text!r} is not one number for each channel; write them as in 0.485,0.456,0.406"
        raise ValueError(msg) from None


def _rates(text: str) -> tuple[float, ...]:
    found = _numbers(text)
    if not 1 <= len(found) <= _MOST_RATES or not all(0 < each < 1 for each in found) or sorted(set(found)) != [*found]:
        msg = f"{text!r} is not 1 to {_MOST_RATES} ascending numbers between 0 and 1; write them as in 0.01,0.05,0.2"
        raise ValueError(msg)
    return found


def _version(text: str) -> str:
    return str(Version.parse(text))


def _bundle_name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        msg = f"{text!r} is no name of a bundle; use small letters, digits, - and _"
        raise ValueError(msg)
    return text


OPTIONS: Final[Table] = {
    "model": Option(str, None, "PACKAGE.MODULE:NAME of a torch module or of a function that returns one"),
    "weights": Option(Path, None, "state dict of the model, as torch.save writes it"),
    "samples": Option(Path, None, "folder of images (png, jpg, webp) or arrays (.npy, .npz) like those it will see"),
    "out": Option(folder_named, None, "folder that becomes the bundle; one that is there is replaced"),
    "name": Option(_bundle_name, None, "the bundle's name in topics; that of --model"),
    "version": Option(_version, "1.0.0", "of both halves"),
    "labels": Option(Path, None, "text file with the name of each output, one a line"),
    "targets": Option(Path, None, "text file with each sample's class, one a line; else sub-folders are classes"),
    "input-shape": Option(_shape, None, "what the model takes for one sample, channels first: 3,224,224"),
    "mean": Option(_numbers, None, "subtracted from each channel of an image within 0 to 1: 0.485,0.456,0.406"),
    "std": Option(_numbers, None, "each channel is divided by it: 0.229,0.224,0.225"),
    "preprocess": Option(one_of("image", "identity"), None, "image for uint8 samples, identity for float32"),
    "cut": Option(
        str, None, "name or number of the cut; without it the cuts are measured, and the best for the link is taken"
    ),
    "profile": Option(
        file_named, None, "JSON of what was measured of the cuts: planned with if it is there, else written"
    ),
    **PLANNING,
    "most-samples": Option(whole(16, 1_000_000), "2000", "of --samples, taken evenly; of --fit-samples all"),
    "rates": Option(_rates, "0.01,0.05,0.2", "KL divergence, nats, or half the share of changed classes, of each rate"),
    "baselines": flag("also points through simpler codecs, to compare with"),
    "no-leakage": flag("do not measure what each operating point shows of the samples, which takes some seconds each"),
    **FITTING,
    **PROMISE,
    "int8": flag("add an int8 TFLite head, calibrated on the samples; edge-node runs it with --runtime int8"),
    "report": Option(file_named, None, "write an HTML page on what was built"),
}


def build_options(arguments: argparse.Namespace, environment: Mapping[str, str]) -> BuildOptions:
    """Checked options. Raises ConfigError, naming the option or the variable, for a value that cannot be used."""
    value = read_options(OPTIONS, arguments, environment)
    missing = [name for name in _NEEDED if value[name] is None]
    if missing:
        msg = f"--{missing[0]} is missing; build needs --{', --'.join(_NEEDED)}"
        raise ConfigError(msg)
    for name in ("report", "profile"):
        if value[name] is not None and not value[name].parent.is_dir():
            msg = f"--{name} {value[name]}: there is no folder {value[name].parent}; make it first"
            raise ConfigError(msg)
    plain = {name: value[name] for name in ("model", "weights", "samples", "out", "version", "labels", "targets")}
    return BuildOptions(
        **plain,
        name=value["name"] or _name_of(value["model"]),
        input_shape=value["input-shape"],
        preprocess=_preprocess(value),
        cut=value["cut"],
        profile=value["profile"],
        planning=planning_of(value),
        most_samples=value["most-samples"],
        rates=value["rates"],
        baselines=value["baselines"],
        leakage=not value["no-leakage"],
        fitting=fitting_of(value),
        promise=promise_of(value),
        report=value["report"],
        int8=value["int8"],
    )


def _name_of(model: str) -> str:
    """A bundle's name from the model's."""
    name = re.sub(r"[^a-z0-9_-]+", "_", model.rpartition(":")[2].lower()).strip("_-")
    return name[:_NAME_CHARS] or "model"


def _preprocess(value: Mapping[str, Any]) -> Preprocess | None:
    kind, told = value["preprocess"], {name: value[name] for name in ("mean", "std") if value[name] is not None}
    if kind == "identity" and told:
        msg = f"--{next(iter(told))} goes with images; leave it out with --preprocess identity"
        raise ConfigError(msg)
    if kind is None and not told:
        return None
    try:
        return Preprocess(kind=kind or "image", **told)
    except ValidationError as error:
        msg = f"--mean, --std: {explain(error)}"
        raise ConfigError(msg) from None
