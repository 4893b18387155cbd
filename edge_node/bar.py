"""From which confidence on an answer of the early exit is sure, and who says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.bundle import Exit
from schemas.certificate import Certificate
from schemas.policy import TaskRoutingPolicy

Origin = Literal["certificate", "calibration", "policy"]


@dataclass(frozen=True, slots=True)
class Bar:
    """An answer is sure when its confidence is at least `threshold`."""

    threshold: float
    origin: Origin
    promise: str = ""
    """What a certificate says of the sure answers; empty without one."""

    @property
    def certified(self) -> bool:
        """Whether the threshold is that of a certificate."""
        return self.origin == "certificate"

    def __str__(self) -> str:
        whose = " of the policy" if self.origin == "policy" else ""
        return f"threshold {self.threshold:g}{whose}, {'certified' if self.certified else 'not certified'}"

    def standing(self) -> str:
        """What the exit's answers are worth, in words, for those who start a node."""
        if self.certified:
            return f"certified: {self.promise}; sure from {self.threshold:g} on"
        whose = "the policy's " if self.origin == "policy" else ""
        return f"not certified; sure from {whose}{self.threshold:g} on"


def bar_of(exit_: Exit, certificate: Certificate | None, policy: TaskRoutingPolicy) -> Bar:
    """The certificate's threshold; without one the calibrated one of the bundle; where there is none, the policy's."""
    if certificate is not None:
        return Bar(certificate.threshold, "certificate", certificate.promise)
    if exit_.threshold is not None:
        return Bar(exit_.threshold, "calibration")
    return Bar(policy.confidence_threshold, "policy")
