"""How far the answers of a pair are to be believed: temperatures, and what is promised of the early exit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cloud_worker.build.exits import ExitCalibration, calibrate_exit, temperature_of
from cloud_worker.build.fit_options import Promise
from cloud_worker.build.samples.dealt import CHOOSING, PROMISING, Part
from schemas.certificate import Mode
from schemas.tensor import Array

_LEAST_LABELLED = 100
"""Samples with classes that a temperature of tail and unsplit model is fitted to."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Of the calibration samples: what each part says, and what is made of it."""

    full_temperature: float
    tail_temperature: float
    exit: ExitCalibration | None
    """Where there is an exit."""
    mode: Mode


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """Logits (N, classes) of the calibration samples."""

    full: Tensor
    tail: Tensor
    """Of what travelled; of the first samples alone, where that is enough."""
    exit: Array | None


def calibrate(said: Said, calibration: Part, promise: Promise, subject: str) -> Answers:
    """Temperatures, and the certificate of the exit.

    With classes the exit is held to them, without to the unsplit model's answers; then temperatures of tail and
    unsplit model stay 1. The samples of CHOOSING fit the exit's temperature, those of PROMISING certify it.
    """
    mode: Mode = "agreement" if calibration.targets is None else "labels"
    reference = said.full.argmax(1).numpy() if calibration.targets is None else calibration.targets
    known = calibration.targets is not None and len(reference) >= _LEAST_LABELLED

    def temperature(logits: Tensor) -> float:
        return temperature_of(logits.numpy(), reference[: len(logits)]) if known else 1.0

    found = None
    if said.exit is not None:
        found = calibrate_exit(
            said.exit[CHOOSING],
            reference[CHOOSING],
            said.exit[PROMISING],
            reference[PROMISING],
            mode=mode,
            alpha=promise.alpha,
            delta=promise.delta,
            subject=subject,
        )
    return Answers(temperature(said.full), temperature(said.tail), found, mode)
