"""The early exit of a bundle from two halves of the calibration samples: its temperature, and what is promised of it.

Logits are float (N, classes), references int (N,): true labels (mode `labels`), or the cloud's answers to the same
samples (mode `agreement`). NumPy only; nothing here reads or writes a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cloud_worker.build.certify import COLDEST, HOTTEST, ece, fit_temperature, issue
from schemas.binomial import upper_bound
from schemas.bundle import Exit
from schemas.errors import CannotCertifyError, ConfigError
from schemas.probability import softmax

if TYPE_CHECKING:
    from cloud_worker.build.certify import Floats, Ints
    from schemas.certificate import Certificate, Mode

_DIGITS: Final = 3
_HALVINGS: Final = 40


class ExitCalibration(NamedTuple):
    """What a builder puts into a bundle."""

    exit: Exit
    """For the manifest; without a threshold where nothing could be certified."""
    certificate: Certificate | None
    """For `certificate.json`: `certificate.to_bytes()`."""
    ece_before: float
    """Expected calibration error of the second half at temperature 1."""
    ece_after: float
    """The same at the temperature that the first half gave."""
    cannot: str | None
    """Why nothing could be certified, and what would help."""


class HybridFigures(NamedTuple):
    """What an exit and the cloud behind it do together on samples that calibrated neither."""

    samples: int
    sure: int
    """Samples that the exit answers."""
    wrong: int
    """The wrong ones among them."""
    selective_error: float | None
    """wrong / sure; None where none is sure."""
    selective_error_upper: float
    """Clopper and Pearson's upper bound of it at 95 %."""
    accuracy: float
    """Of all answers: the exit's where it is sure, the cloud's elsewhere."""

    @property
    def coverage(self) -> float:
        """Share of the samples that the exit answers."""
        return self.sure / self.samples


def calibrate_exit(
    exit_logits_fit: Floats,
    reference_fit: Ints,
    exit_logits_certify: Floats,
    reference_certify: Ints,
    *,
    mode: Mode,
    alpha: float,
    delta: float,
    subject: str,
) -> ExitCalibration:
    """Temperature from the first half, certificate and calibration errors from the second.

    The halves must be disjoint, drawn alike, and neither may have trained the exit: `certify` says why. At most alpha
    of the sure answers are to be wrong, with probability 1 - delta; `subject` is the manifest's pairing id, which must
    cover the exit's own weights. Logits must be those of the head that is shipped. Where the second half proves
    nothing, `cannot` says why and the exit has no threshold. Raises ConfigError for arrays that do not fit each other,
    and for alpha, delta or subject that are none.
    """
    if exit_logits_fit.shape[1:] != exit_logits_certify.shape[1:]:
        one, other = list(exit_logits_fit.shape), list(exit_logits_certify.shape)
        msg = f"calibrating the exit: logits {one} and {other} are of different exits; give both halves of one"
        raise ConfigError(msg)
    temperature = temperature_of(exit_logits_fit, reference_fit)
    before = ece(softmax(exit_logits_certify), reference_certify)
    after = ece(softmax(exit_logits_certify, temperature), reference_certify)
    try:
        certificate = issue(
            exit_logits_certify,
            reference_certify,
            mode=mode,
            temperature=temperature,
            alpha=alpha,
            delta=delta,
            subject=subject,
        )
    except CannotCertifyError as error:
        return ExitCalibration(Exit(temperature=temperature), None, before, after, str(error))
    exit_ = Exit(
        temperature=temperature, threshold=certificate.threshold, coverage=certificate.coverage, certified=True
    )
    return ExitCalibration(exit_, certificate, before, after, None)


def temperature_of(logits: Floats, reference: Ints) -> float:
    """The temperature of least negative log likelihood to a thousandth, no colder than so many samples can support.

    Where no answer, or hardly one, is wrong, that likelihood wants certainty: `fit_temperature` ends at COLDEST, and
    every confidence at 1. So the mean confidence is kept to (N + 1) / (N + 2), what N right answers in a row are worth
    by Laplace's rule of succession, whatever the scale of the logits. A single wrong answer in N asks for less, so
    wherever the fit tracks the accuracy, this changes nothing.

    For the exit, the tail and the unsplit model alike; but logits that are themselves where `reference` comes from
    agree with it always, and their temperature is better left at 1. Raises ConfigError for arrays that do not fit.
    """
    fitted = fit_temperature(logits, reference)
    supported = (len(logits) + 1) / (len(logits) + 2)
    if _mean_confidence(logits, fitted) > supported:
        fitted = _temperature_at(logits, supported)
    return min(HOTTEST, max(COLDEST, round(fitted, _DIGITS)))


def hybrid_figures(
    exit_logits: Floats, cloud_answers: Ints, reference: Ints, *, temperature: float, threshold: float
) -> HybridFigures:
    """Coverage, selective error and accuracy on held-out samples: N of each, in the same order.

    `cloud_answers` int (N,) stand wherever the exit is not sure. Raises ConfigError for arrays that do not fit.
    """
    if not len(exit_logits) == len(cloud_answers) == len(reference) > 0:
        counts = f"{len(exit_logits)} logits, {len(cloud_answers)} answers of the cloud, {len(reference)} references"
        msg = f"hybrid figures take as many of each, got {counts}"
        raise ConfigError(msg)
    sure = softmax(exit_logits, temperature).max(axis=1) >= threshold
    right = exit_logits.argmax(axis=1) == reference
    covered, wrong = int(sure.sum()), int((sure & ~right).sum())
    return HybridFigures(
        samples=len(sure),
        sure=covered,
        wrong=wrong,
        selective_error=wrong / covered if covered else None,
        selective_error_upper=upper_bound(wrong, covered, 0.05),
        accuracy=float((right & sure | (cloud_answers == reference) & ~sure).mean()),
    )


def _temperature_at(logits: Floats, mean_confidence: float) -> float:
    """The temperature at which the mean confidence, which falls with it, is that; HOTTEST where it stays above."""
    low, high = COLDEST, HOTTEST
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _mean_confidence(logits, middle) > mean_confidence else (low, middle)
    return high


def _mean_confidence(logits: Floats, temperature: float) -> float:
    return float(softmax(logits, temperature).max(axis=1).mean())
