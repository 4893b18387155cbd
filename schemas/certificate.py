"""`certificate.json`: what is promised about the early exit of a bundle, and the counts that it rests on.

`cloud_worker.build.certify` writes it. Whoever reads it does the arithmetic again, every test of it: a certificate
whose threshold does not follow from its own counts is refused. `docs/bundle.md` says how a stranger does the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from schemas.binomial import lower_tail, upper_bound
from schemas.errors import BundleError
from schemas.record import JsonFile, Record

CERTIFICATE: Final = "certificate.json"
MAX_CERTIFICATE_BYTES: Final = 1 << 18
DIGEST: Final = r"^[0-9a-f]{64}$"
MAX_GRID: Final = 512
_TOLERANCE: Final = 1e-9
_ROUNDING: Final = 1e-6
"""By how much of itself a reader lets a p-value be over its level: logarithms differ between machines."""

Mode = Literal["labels", "agreement"]
"""What an answer of the exit is compared with: the true label, or what the cloud answers to the same sample."""
Chance = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=1 << 24)]
Thresholds = Annotated[tuple[Share, ...], Field(min_length=1, max_length=MAX_GRID)]
Counts = tuple[Count, Count]
"""Samples at or above a threshold, and the wrong ones among them."""


class Certificate(Record):
    """With probability 1 - delta over the samples drawn, at most alpha of the exit's sure answers are wrong.

    Sure is an answer whose confidence, softmax(logits / temperature), is at least `threshold`. The promise is about
    samples drawn like those that were used; in mode `agreement`, wrong means otherwise than the cloud. Raises
    ValidationError for figures that contradict each other.
    """

    format: Literal[1] = 1
    mode: Mode
    subject: Annotated[str, Field(pattern=DIGEST)]
    """What it is for: the manifest's `pairing`, a digest over the weights of every part that may answer."""
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
    tested: Annotated[tuple[Counts, ...], Field(min_length=1, max_length=MAX_GRID)]
    """For each threshold of the grid, the samples at or above it and the wrong ones among them."""
    threshold: Share
    """The lowest at which the promise is proven; see `proven`."""
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
        self._check_tested()
        return self

    @property
    def promise(self) -> str:
        """What is promised, in words; without a word on the threshold."""
        return promise_of(self.alpha, self.delta, self.mode)

    def to_bytes(self) -> bytes:
        """The file: JSON, a line for each field."""
        lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in self.model_dump(mode="json").items())
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()

    def check_belongs(
        self, *, pairing: str, temperature: float, threshold: float | None, coverage: float | None
    ) -> None:
        """Raise BundleError, naming the field, unless it is of the exit of the manifest that says this."""
        told = {"subject": pairing, "temperature": temperature, "threshold": threshold, "coverage": coverage}
        for name, wanted in told.items():
            found = getattr(self, name)
            if found != wanted:
                whose = "pairing" if name == "subject" else f"exit.{name}"
                fact = f"{name} is {_shown(found)}, the manifest's {whose} is {_shown(wanted)}"
                msg = f"{CERTIFICATE} is of another exit: {fact}; certify this one, or fetch the bundle again"
                raise BundleError(msg)

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

    def _check_tested(self) -> None:
        """The counts may be, the figures are those at the threshold, and the tests prove it."""
        if len(self.tested) != len(self.grid):
            msg = f"tested has {len(self.tested)} pairs of counts, the grid {len(self.grid)} thresholds"
            raise ValueError(msg)
        for (n, k), (more_n, more_k) in pairwise([(0, 0), *self.tested]):
            if not 0 <= more_k - k <= more_n - n:
                msg = f"tested: {more_k} wrong of {more_n} cannot follow {k} of {n} at a stricter threshold"
                raise ValueError(msg)
        if self.tested[-1][0] > self.samples:
            msg = f"tested has {self.tested[-1][0]} samples at its last threshold, of {self.samples} in all"
            raise ValueError(msg)
        index = self.grid.index(self.threshold)
        if self.tested[index] != (self.covered, self.errors):
            msg = f"tested says {self.tested[index]} at the threshold, covered and errors {self.covered, self.errors}"
            raise ValueError(msg)
        if index not in proven(self.tested, self.grid, self.starts, self.alpha, self.delta, rounding=_ROUNDING):
            msg = f"the tests do not prove threshold {self.threshold:g}; certify again"
            raise ValueError(msg)


def promise_of(alpha: float, delta: float, mode: Mode) -> str:
    """What a certificate promises of an exit, in words."""
    wrong = "wrong" if mode == "labels" else "other than the cloud's"
    sure = f"{100 * (1 - delta):.6g} % confidence ({mode})"
    return f"at most {100 * alpha:.6g} % {wrong} among its sure answers, with {sure}"


def proven(
    tested: Sequence[Counts],
    grid: Sequence[float],
    starts: Sequence[float],
    alpha: float,
    delta: float,
    *,
    rounding: float = 0.0,
) -> list[int]:
    """The places in the grid at which P(wrong | confidence >= threshold) <= alpha is proven; together at level delta.

    The fallback procedure that `cloud_worker.build.certify.certify` explains: from the strictest threshold down, a test
    has the level that the one before it has passed on plus its own part, delta / len(starts) at a start; it passes
    when P(Binomial(covered, alpha) <= errors) is at most that, and a failure passes on nothing. `rounding` is the share
    of its level by which a p-value may be over it.
    """
    level, found = 0.0, []
    for index, (threshold, (covered, errors)) in enumerate(zip(grid, tested, strict=True)):
        level = min(delta, level + (delta / len(starts) if threshold in starts else 0.0))
        if level == 0.0:
            continue
        if lower_tail(errors, covered, alpha) <= level * (1 + rounding):
            found.append(index)
        else:
            level = 0.0
    return found


def _shown(value: object) -> str:
    return f"{value[:16]}..." if isinstance(value, str) else str(value)


_FILE = JsonFile(Certificate, CERTIFICATE, MAX_CERTIFICATE_BYTES, BundleError, "this is not a certificate")


def parse_certificate(data: bytes) -> Certificate:
    """Read certificate.json. Raises BundleError, naming the field and the value."""
    return _FILE.parse(data)
