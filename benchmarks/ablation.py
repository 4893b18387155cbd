"""What each choice behind codec `transform` is worth: bytes at equal KL of the output, on the validation crops.

The test crops, which `rate` measures, have no part in it; the constants of `fit_transform.Choices` come from here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rate_curves import Curve, Floats
from benchmarks.rate_points import log_softmax
from benchmarks.report import Report
from cloud_worker.build.codecs.fisher import gradients
from cloud_worker.build.codecs.fit_transform import Choices, fit
from models.efficientnet_lite0 import nets, photos
from schemas.codecs.transform import Transform
from schemas.errors import ConfigError
from schemas.tensor import Array, TensorSpec

LEVELS = (-7, -5, -3, -1, 1, 3, 5)
TARGETS = (0.1, 0.05, 0.02)
_DRAWS = 8
_BATCH = 22


class Variant(NamedTuple):
    """One way to fit."""

    name: str
    choices: Choices = Choices()
    felt: bool = True
    """Whether the gradients are the model's; without, every direction counts alike."""
    crops: int | None = None
    """Calibration crops; None for all."""


VARIANTS = (
    Variant("as it is"),
    Variant("no Fisher information", felt=False),
    Variant("one channel matrix for all frequencies", Choices(band_edges=())),
    Variant("four channel matrices", Choices(band_edges=(1, 4, 11))),
    Variant("plain rounding", Choices(offset=0.5, shift=0.0)),
    Variant("plain rounding, values further out", Choices(offset=0.5, shift=0.06)),
    Variant("a wider zero", Choices(offset=0.4, shift=0.1)),
    Variant("every coefficient coded", Choices(floor_octaves=6.0)),
    Variant("half of them coded", Choices(floor_octaves=1.5)),
    Variant("40 calibration crops", crops=40),
    Variant("80 calibration crops", crops=80),
    Variant("160 calibration crops", crops=160),
)


class Cut(NamedTuple):
    """Activations at one cut, float32 (N, C, H, W), and what follows."""

    tail: nn.Module
    calibration: Tensor
    felt: Tensor
    """Gradients there."""
    validation: Tensor
    logs: Floats
    """Log-probabilities of the unsplit model for the validation crops."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which cut, which photos."""
    parser.add_argument(
        "--cut", type=int, choices=range(17), metavar="STEP", default=6, help="last step of the head, 0 to 16"
    )
    numbers = range(len(VARIANTS))
    parser.add_argument(
        "--only", type=int, nargs="+", choices=numbers, metavar="N", help=f"variants 0 to {numbers[-1]}; all without"
    )
    parser.add_argument("--photos", type=Path, help="folder of photos instead of those of installed packages")


async def run(options: argparse.Namespace) -> Report:
    """Fit and measure every variant."""
    try:
        cut = _cut(options.cut, options.photos)
    except (photos.PhotoError, FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from None
    report = Report("ablation", notes=[f"{len(cut.validation)} validation crops, cut {options.cut}, KL in nats"])
    for number in range(len(VARIANTS)) if options.only is None else options.only:
        variant = VARIANTS[number]
        report.rows.append({"variant": variant.name, **_measured(cut, variant)})
    return report


def _cut(step: int, folder: Path | None) -> Cut:
    found, net = photos.photos(folder), nets.load_net()
    head, tail = net[: step + 1], net[step + 1 :]
    calibration, validation = (_activations(head, photos.crops(found, part)) for part in ("calibration", "validation"))
    return Cut(
        tail, calibration, gradients(tail, calibration, _DRAWS), validation, log_softmax(_logits(tail, validation))
    )


@torch.inference_mode()
def _activations(head: nn.Module, crops: Array) -> Tensor:
    inputs = torch.from_numpy(np.stack([nets.PREPROCESS.apply(crop) for crop in crops]))
    return torch.cat([head(part) for part in torch.split(inputs, _BATCH)]).clone()


@torch.inference_mode()
def _logits(tail: nn.Module, cuts: Tensor) -> Array:
    logits: Array = torch.cat([tail(part) for part in torch.split(cuts, _BATCH)]).numpy()
    return logits


def _measured(cut: Cut, variant: Variant) -> dict[str, Any]:
    """Bytes at each target, and how many coefficients level 0 codes."""
    step = -(-len(cut.calibration) // (variant.crops or len(cut.calibration)))
    felt = cut.felt[::step]
    if not variant.felt:
        felt = torch.randn(felt.shape, generator=torch.Generator().manual_seed(1)) * cut.felt.std()
    tables = fit(cut.calibration[::step], felt, variant.choices)
    spec = TensorSpec(dtype="float32", shape=tuple(cut.validation.shape[1:]))
    points = list(_points(cut, [Transform(spec, {"level": level}, tables) for level in LEVELS]))
    curve = Curve(np.stack([sizes for sizes, _ in points]), np.stack([losses for _, losses in points]))
    return {f"bytes_at_{target}": round(curve.bytes_at(target), 1) for target in TARGETS}


def _points(cut: Cut, codecs: list[Transform]) -> Iterator[tuple[Floats, Floats]]:
    """Sizes and KL of each validation crop, codec by codec."""
    for codec in codecs:
        payloads = [codec.encode(tensor) for tensor in cut.validation.numpy()]
        arrived = torch.from_numpy(np.stack([codec.decode(payload) for payload in payloads]))
        logs = log_softmax(_logits(cut.tail, arrived))
        losses = (np.exp(cut.logs) * (cut.logs - logs)).sum(axis=1)
        yield np.array([float(len(payload)) for payload in payloads]), losses
