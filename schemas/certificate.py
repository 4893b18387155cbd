"""`certificate.json`: what is promised about the early exit of a bundle, and the counts that it rests on.

`cloud_worker.build.certify` writes it. Whoever reads it can do the arithmetic again: a certificate whose bound is not
that of its own counts is refused.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from schemas.binomial import upper_bound
from schemas.errors import BundleError
from schemas.record import JsonFile, Record

CERTIFICATE: Final = "certificate.json"
MAX_CERTIFICATE_BYTES: Final = 1 << 18
DIGEST: Final = r"^[0-9a-f]{64}$"
_TOLERANCE: Final = 1e-9

Mode = Literal["labels", "agreement"]
"""What an answer of the exit is compared with: the true label, or what the cloud answers to the same sample."""
Chance = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=1 << 24)]
Thresholds = Annotated[tuple[Share, ...], Field(min_length=1, max_length=4096)]


class Certificate(Record):
    """With probability 1 - delta over the samples drawn, at most alpha of the exit's sure answers are wrong.

    Sure is an answer whose confidence, softmax(logits / temperature), is at least `threshold`. The promise is about
    samples drawn like those that were used; in mode `agreement`, wrong means otherwise than the cloud. Raises
    ValidationError for figures that contradict each other.
    """

    format: Literal[1] = 1
    mode: Mode
    subject: Annotated[str, Field(pattern=DIGEST)]
    """What it is for: the digest of the head's weights, or the bundle's interface digest."""
    alpha: Chance
    """The most wrong answers among the sure ones, as a share."""
    delta: Chance
    """How probable it may be that the samples drawn mislead."""
    samples: Annotated[Count, Field(ge=1)]
    """How many were used, the sure and the unsure."""
    grid: Thresholds
    """The thresholds that were tested, strictest first; chosen before the samples were seen."""
    starts: Thresholds
    """Those of the grid where a sequence of tests begins, each with an equal part of delta."""
    threshold: Share
    covered: Annotated[Count, Field(ge=1)]
    """Samples at or above the threshold."""
    errors: Count
    """The wrong ones among them."""
    coverage: Share
    """covered / samples."""
    risk: Share
    """errors / covered."""
    risk_upper: Share
    """Clopper and Pearson's upper bound of the risk at delta, as if the threshold had been given: at most alpha.

    Since the threshold was found with the same samples, alpha is what is promised, and not this.
    """
    temperature: Annotated[float, Field(gt=0)]
    """Fitted on other samples than those counted here."""
    ece_before: Share
    """Expected calibration error of the samples counted here, at temperature 1."""
    ece_after: Share
    """The same at the temperature above."""

    @model_validator(mode="after")
    def _consistent(self) -> Certificate:
        if any(above <= below for above, below in pairwise(self.grid)):
            msg = "the grid does not fall from threshold to threshold"
            raise ValueError(msg)
        if not {self.threshold, *self.starts} <= set(self.grid) or len(set(self.starts)) != len(self.starts):
            msg = f"threshold {self.threshold:g} or a start is not on the grid, or a start stands twice"
            raise ValueError(msg)
        if not self.errors <= self.covered <= self.samples:
            msg = f"{self.errors} errors among {self.covered} covered of {self.samples} samples cannot be"
            raise ValueError(msg)
        self._check_figures()
        return self

    def _check_figures(self) -> None:
        wanted = {
            "coverage": self.covered / self.samples,
            "risk": self.errors / self.covered,
            "risk_upper": upper_bound(self.errors, self.covered, self.delta),
        }
        for name, value in wanted.items():
            if not math.isclose(getattr(self, name), value, rel_tol=0, abs_tol=_TOLERANCE):
                msg = f"{name} is {getattr(self, name):.6g}, the counts give {value:.6g}; certify again"
                raise ValueError(msg)
        if self.risk_upper > self.alpha + _TOLERANCE:
            msg = f"risk_upper {self.risk_upper:.4g} is over alpha {self.alpha:g}, so nothing is certified"
            raise ValueError(msg)


_FILE = JsonFile(Certificate, CERTIFICATE, MAX_CERTIFICATE_BYTES, BundleError, "this is not a certificate")


def parse_certificate(data: bytes) -> Certificate:
    """Read certificate.json. Raises BundleError, naming the field and the value."""
    return _FILE.parse(data)
