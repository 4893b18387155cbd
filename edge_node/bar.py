"""From which confidence on an answer of the early exit is sure, and who says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.bundle import Exit
from schemas.certificate import Certificate
from schemas.exit_gauges import standing
from schemas.policy import TaskRoutingPolicy

Origin = Literal["certificate", "calibration", "policy"]


@dataclass(frozen=True, slots=True)
class Bar:
    """An answer is sure when its confidence is at least `threshold`."""

    threshold: float
    origin: Origin
    certificate: Certificate | None = None
    """What promises something of the sure answers, where something does."""

    def __str__(self) -> str:
        whose = " of the policy" if self.origin == "policy" else ""
        return f"threshold {self.threshold:g}{whose}, {'certified' if self.certificate else 'not certified'}"

    def standing(self) -> str:
        """What the exit's answers are worth, in words, for those who start a node."""
        whose = "the policy's " if self.origin == "policy" else ""
        return standing(f"{whose}{self.threshold:g}", self.certificate.promise if self.certificate else "")


def bar_of(exit_: Exit, certificate: Certificate | None, policy: TaskRoutingPolicy) -> Bar:
    """The certificate's threshold; without one the calibrated one of the bundle; where there is none, the policy's."""
    if certificate is not None:
        return Bar(certificate.threshold, "certificate", certificate)
    if exit_.threshold is not None:
        return Bar(exit_.threshold, "calibration")
    return Bar(policy.confidence_threshold, "policy")
