"""How sure the early exit must be: temperature, calibration error, and a threshold with a proof. NumPy only.

Logits are float (N, classes), labels int (N,). A threshold t is certified when, with probability 1 - delta over the
draw of the samples, P(wrong | confidence >= t) <= alpha for samples drawn alike. Wrong is one of two things:

- mode `labels`: the exit's answer is not the true label;
- mode `agreement`, which needs no labels: the exit's answer is not the cloud's. The sure answers' error is then at most
  alpha plus the cloud's own error on them.

Temperature and grid must come from other samples or from none: a score that was fitted to the samples that it is
certified with carries no promise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from schemas.binomial import lower_tail, upper_bound
from schemas.certificate import DIGEST, Certificate, Mode, proven
from schemas.errors import CannotCertifyError, ConfigError
from schemas.probability import softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Ints = NDArray[np.integer[Any]]
    Bools = NDArray[np.bool_]

GRID: Final = (0.999, 0.9975, *(round(thousandths / 1000, 3) for thousandths in range(995, 299, -5)))
"""Written down once, whatever the model."""
STARTS: Final = (0.999, 0.99, 0.95, 0.8)
"""Of GRID: for exits that are often nearly certain, with many samples, down to exits that never are."""
COLDEST, HOTTEST = 0.05, 20.0
_HALVINGS: Final = 50
_AXES: Final = 2


class Certified(NamedTuple):
    """A certified threshold and the counts behind it."""

    threshold: float
    samples: int
    covered: int
    """Samples at or above the threshold."""
    errors: int
    """The wrong ones among them."""


def certify(
    confidence: Floats,
    wrong: Bools,
    alpha: float,
    delta: float,
    *,
    grid: Sequence[float] = GRID,
    starts: Sequence[float] = STARTS,
) -> Certified:
    """The lowest threshold of the grid at which P(wrong | confidence >= threshold) <= alpha is proven at level delta.

    Learn then Test (Angelopoulos, Bates, Candes, Jordan and Lei 2021). The hypothesis of threshold t is that its
    selective risk R(t) is above alpha. Given how many samples n reach t, the wrong ones among them are
    Binomial(n, R(t)), so P(Binomial(n, alpha) <= errors) is a valid p-value; of n = 0 it is 1.

    The thresholds are tested from the strictest down. A single sequence would often end at its first test, since few
    samples reach 0.999 and even no error among n proves nothing while (1 - alpha)^n > delta. To begin where enough
    samples are found would let the same samples choose the test and pass it. So there are several starts, each with
    delta / len(starts), and what a test has earned is passed on: the level of a threshold is its own part plus, if the
    one before was rejected, that one's level; after a failure the next start goes on with its part alone (the fallback
    procedure: Wiens 2003, Wiens and Dmitrienko 2005). This holds for any dependence between the tests and any shape
    of R: the first true hypothesis to be rejected, if one is, has a level of at most the parts that stand after the
    true hypothesis before it, which was not rejected; so the chances of being the first sum to at most delta. Hence
    all rejected thresholds are safe together, and the lowest may be taken.

    `confidence` float (N,) within 0 to 1, `wrong` bool (N,). The promise needs samples drawn independently from what
    the exit will see, and a grid, starts and confidences that do not depend on them; starts may be chosen by a pilot
    on other samples. Raises CannotCertifyError when no threshold is proven, ConfigError for arrays that do not fit, a
    grid that does not fall, starts that are not on it, and alpha or delta not between 0 and 1.
    """
    _check_samples(confidence, wrong)
    _check_promise(alpha, delta, grid, starts)
    tested = _counts(confidence, wrong, grid)
    found = proven(tested, grid, starts, alpha, delta)
    if not found:
        at_starts = [counts for threshold, counts in zip(grid, tested, strict=True) if threshold in starts]
        raise _cannot(at_starts, len(confidence), alpha, delta)
    return Certified(float(grid[found[-1]]), len(confidence), *tested[found[-1]])


def plain_threshold(confidence: Floats, wrong: Bools, alpha: float, grid: Sequence[float] = GRID) -> float | None:
    """The lowest threshold whose errors on these very samples are at most alpha; it promises nothing. None: no such."""
    _check_samples(confidence, wrong)
    counts = zip(grid, _counts(confidence, wrong, grid), strict=True)
    return min((threshold for threshold, (n, k) in counts if n and k <= alpha * n), default=None)


def issue(
    exit_logits: Floats,
    reference: Ints,
    *,
    mode: Mode,
    temperature: float,
    alpha: float,
    delta: float,
    subject: str,
    grid: Sequence[float] = GRID,
    starts: Sequence[float] = STARTS,
) -> Certificate:
    """The certificate of an exit, float (N, classes), against `reference`, int (N,): labels, or the cloud's answers.

    `temperature` must be fitted on other samples. `subject` is the pairing id of the manifest that it is for: 64 hex
    digits over the weights of every part that may answer. Raises CannotCertifyError and ConfigError as `certify` does.
    """
    _check_logits(exit_logits, reference)
    if not 0 < temperature < np.inf or not re.fullmatch(DIGEST, subject):
        msg = f"certifying: temperature {temperature} must be above 0, and subject {subject!r:.70} 64 hex digits"
        raise ConfigError(msg)
    chances = softmax(exit_logits, temperature)
    confidence, wrong = chances.max(axis=1), exit_logits.argmax(axis=1) != reference
    found = certify(confidence, wrong, alpha, delta, grid=grid, starts=starts)
    return Certificate(
        mode=mode,
        subject=subject,
        alpha=alpha,
        delta=delta,
        samples=found.samples,
        grid=tuple(grid),
        starts=tuple(starts),
        tested=tuple(_counts(confidence, wrong, grid)),
        threshold=found.threshold,
        covered=found.covered,
        errors=found.errors,
        coverage=found.covered / found.samples,
        risk=found.errors / found.covered,
        risk_upper=upper_bound(found.errors, found.covered, delta),
        temperature=temperature,
        ece_before=ece(softmax(exit_logits), reference),
        ece_after=ece(chances, reference),
    )


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature of least negative log likelihood (Guo, Pleiss, Sun and Weinberger 2017).

    The loss is convex in 1 / temperature; its slope is halved down to a relative error below 1e-12, between COLDEST
    and HOTTEST, which are returned where the slope does not change sign: when all answers are right, or no better
    than chance. Raises ConfigError for arrays that do not fit or are not finite.
    """
    _check_logits(logits, labels)
    chosen = logits[np.arange(len(labels)), labels].astype(np.float64)

    def slope(inverse: float) -> float:
        expected = (softmax(logits, 1 / inverse) * logits).sum(axis=1)
        return float((expected - chosen).mean())

    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    if slope(float(np.exp(low))) >= 0:
        return HOTTEST
    if slope(float(np.exp(high))) <= 0:
        return COLDEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(float(np.exp(middle))) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def ece(probabilities: Floats, labels: Ints, bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and accuracy (Naeini, Cooper and Hauskrecht 2015).

    `probabilities` float (N, classes). The confidence is that of the most probable class; bins are of equal width, open
    below and closed above (Guo et al. 2017), and weigh as many samples as they hold. Raises ConfigError for arrays
    that do not fit or no bins.
    """
    _check_logits(probabilities, labels)
    if bins < 1:
        msg = f"{bins} bins; give at least 1"
        raise ConfigError(msg)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def _counts(confidence: Floats, wrong: Bools, grid: Sequence[float]) -> list[tuple[int, int]]:
    """At or above each threshold of the grid: samples, and the wrong ones among them."""
    order = np.argsort(confidence)
    first = np.searchsorted(confidence[order], np.asarray(grid, np.float64), side="left")
    before = np.concatenate([[0], np.cumsum(wrong[order])])
    return list(zip((len(confidence) - first).tolist(), (before[-1] - before[first]).tolist(), strict=True))


def _cannot(at_starts: list[tuple[int, int]], samples: int, alpha: float, delta: float) -> CannotCertifyError:
    """What stands in the way at each start, covered and errors, and how many further samples would do at best."""
    wanted = f"at most {alpha:.3g} wrong at level {delta:.3g} with {samples} samples"
    if not any(covered for covered, _ in at_starts):
        fact, remedy = f"{wanted}: none reaches any start", "fit the temperature, learn longer, or give lower starts"
        return CannotCertifyError(fact=fact, remedy=remedy, more=None)
    level = delta / len(at_starts)
    needed = [(_further(k, n, alpha, level) * samples / n, n, k) for n, k in at_starts if n]
    best, covered, errors = min(needed)
    more = int(np.ceil(best))
    remedy = f"at best {more} further samples would do, or a larger alpha"
    if min(k / n for n, k in at_starts if n) >= alpha:
        remedy = f"a larger alpha would do, a better exit, or at best {more} further samples without an error"
    return CannotCertifyError(fact=f"{wanted}: {errors} errors among {covered} sure", remedy=remedy, more=more)


def _further(errors: int, covered: int, alpha: float, level: float) -> int:
    """The fewest further sure samples, none of them wrong, that bring the p-value down to the level; at least 1."""
    high = 1
    while lower_tail(errors, covered + high, alpha) > level:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if lower_tail(errors, covered + middle, alpha) > level else (low, middle)
    return high


def _check_samples(confidence: Floats, wrong: Bools) -> None:
    if confidence.ndim != 1 or confidence.shape != wrong.shape or wrong.dtype != np.bool_ or not len(wrong):
        given = f"{confidence.dtype}{list(confidence.shape)} and {wrong.dtype}{list(wrong.shape)}"
        msg = f"certifying takes confidences float (N,) and wrong bool (N,), got {given}"
        raise ConfigError(msg)
    if not ((confidence >= 0) & (confidence <= 1)).all():
        msg = "certifying: a confidence is not within 0 to 1; give the softmax, not the logits"
        raise ConfigError(msg)


def _check_promise(alpha: float, delta: float, grid: Sequence[float], starts: Sequence[float]) -> None:
    if not (0 < alpha < 1 and 0 < delta < 1):
        msg = f"certifying: alpha is {alpha} and delta {delta}; give probabilities above 0 and below 1"
        raise ConfigError(msg)
    if not len(grid) or not all(0 <= each <= 1 for each in grid) or list(grid) != sorted(set(grid), reverse=True):
        msg = "certifying: the grid must hold thresholds from 0 to 1, each once, strictest first"
        raise ConfigError(msg)
    if not len(starts) or not set(starts) <= set(grid) or len(set(starts)) != len(starts):
        msg = f"certifying: starts {list(starts)} must be thresholds of the grid, each once"
        raise ConfigError(msg)


def _check_logits(logits: Floats, labels: Ints) -> None:
    fits = logits.ndim == _AXES and labels.shape == logits.shape[:1] and logits.size > 0
    if not fits or not np.issubdtype(labels.dtype, np.integer):
        given = f"{logits.dtype}{list(logits.shape)} and {labels.dtype}{list(labels.shape)}"
        msg = f"logits must be float (N, classes) and labels int (N,), got {given}"
        raise ConfigError(msg)
    if not np.isfinite(logits).all() or not ((labels >= 0) & (labels < logits.shape[1])).all():
        msg = f"a logit is not finite, or a label is not within 0 to {logits.shape[1] - 1}; look at how they were made"
        raise ConfigError(msg)
