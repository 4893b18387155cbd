"""The exit's calibration for a builder: which half gives what, what is said where nothing can be promised."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from cloud_worker.build.certify import COLDEST, HOTTEST, ece, fit_temperature
from cloud_worker.build.exits import ExitCalibration, calibrate_exit, hybrid_figures, temperature_of
from schemas.binomial import upper_bound
from schemas.bundle import seal
from schemas.certificate import CERTIFICATE, parse_certificate
from schemas.errors import ConfigError
from schemas.probability import softmax
from schemas.tensor import Array
from tests.cloud_worker.build.test_certify import drawn
from tests.schemas.manifests import CONTENT, entries, fields

PAIRING = fields()["pairing"]
PROMISE: dict[str, Any] = {"mode": "labels", "alpha": 0.1, "delta": 0.05, "subject": PAIRING}


def calibrated(count: int = 3000, seed: int = 1, **promise: Any) -> tuple[ExitCalibration, Array, Array]:
    """The calibration of two halves of samples whose true temperature is 0.5; logits and labels of the second."""
    logits, labels = drawn(0.5, seed=seed, count=2 * count)
    halves = (logits[:count], labels[:count], logits[count:], labels[count:])
    return calibrate_exit(*halves, **{**PROMISE, **promise}), *halves[2:]


def test_temperature_is_of_the_first_half_and_everything_else_of_the_second() -> None:
    found, logits, labels = calibrated()
    first = drawn(0.5, seed=1, count=6000)
    assert found.exit.temperature == temperature_of(first[0][:3000], first[1][:3000]) == pytest.approx(0.5, rel=0.1)
    assert (found.ece_before, found.ece_after) == (
        ece(softmax(logits), labels),
        ece(softmax(logits, found.exit.temperature), labels),
    )
    assert found.ece_after < found.ece_before
    sure = softmax(logits, found.exit.temperature).max(axis=1) >= (found.exit.threshold or 0)
    assert found.exit.coverage == sure.mean()
    assert found.certificate is not None
    assert (found.certificate.samples, found.certificate.covered) == (3000, sure.sum())


def test_what_comes_back_makes_a_manifest_and_its_certificate() -> None:
    found, *_ = calibrated()
    assert found.certificate is not None
    data = found.certificate.to_bytes()
    manifest = seal(fields(exit=found.exit, files=entries({**CONTENT, CERTIFICATE: data})))
    assert manifest.exit is not None
    assert manifest.exit.certified
    assert found.cannot is None
    parse_certificate(data).check_belongs(
        pairing=manifest.pairing,
        temperature=manifest.exit.temperature,
        threshold=manifest.exit.threshold,
        coverage=manifest.exit.coverage,
    )


@pytest.mark.parametrize(("count", "alpha"), [(10, 0.1), (3000, 0.0001)], ids=["few samples", "much promised"])
def test_where_nothing_can_be_promised_it_says_why_and_leaves_the_threshold_to_the_policy(
    count: int, alpha: float
) -> None:
    found, *_ = calibrated(count, alpha=alpha)
    assert found.cannot is not None
    assert found.cannot.startswith("cannot certify: at most ")
    assert (found.certificate, found.exit.threshold, found.exit.coverage, found.exit.certified) == (
        None,
        None,
        None,
        False,
    )
    assert seal(fields(exit=found.exit)).exit == found.exit
    assert 0 <= found.ece_after <= 1


def test_without_labels_the_cloud_is_the_measure() -> None:
    found, *_ = calibrated(mode="agreement")
    assert found.certificate is not None
    assert found.certificate.mode == "agreement"


@pytest.mark.parametrize("change", ["labels", "classes", "none"])
def test_halves_that_do_not_fit_are_refused(change: str) -> None:
    logits, labels = drawn(0.5, seed=3, count=40)
    one: tuple[Array, Array] = (logits[:20], labels[:20])
    other = {
        "labels": (logits[20:], labels[20:30]),
        "classes": (logits[20:, :9], labels[20:].clip(0, 8)),
        "none": (logits[:0], labels[:0]),
    }[change]
    for halves in ((*one, *other), (*other, *one)):
        with pytest.raises(ConfigError):
            calibrate_exit(*halves, **PROMISE)


@pytest.mark.parametrize("changes", [{"alpha": 0.0}, {"delta": 1.0}, {"subject": "head"}])
def test_a_promise_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="certifying"):
        calibrated(20, **changes)


class TestTemperature:
    @pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
    def test_with_errors_enough_it_is_the_fitted_one(self, temperature: float) -> None:
        logits, labels = drawn(temperature, seed=4, count=2000)
        assert temperature_of(logits, labels) == round(fit_temperature(logits, labels), 3)

    @pytest.mark.parametrize("count", [4, 100, 5000])
    def test_without_an_error_confidence_is_what_so_many_right_answers_are_worth(self, count: int) -> None:
        logits, _ = drawn(1.0, seed=5, count=count)
        answers = logits.argmax(axis=1)
        logits[np.arange(count), answers] += 1
        assert fit_temperature(logits, answers) == COLDEST
        found = temperature_of(logits, answers)
        assert found > COLDEST
        assert softmax(logits, found).max(axis=1).mean() == pytest.approx((count + 1) / (count + 2), rel=0.1 / count)

    @pytest.mark.parametrize("scale", [1e-6, 1e6])
    def test_no_scale_of_the_logits_leaves_the_limits(self, scale: float) -> None:
        logits, labels = drawn(1.0, seed=7, count=50)
        for reference in (labels, logits.argmax(axis=1), logits.argmin(axis=1)):
            assert COLDEST <= temperature_of(logits * scale, reference) <= HOTTEST

    def test_a_single_class_and_even_logits_are_no_trouble(self) -> None:
        assert temperature_of(np.ones((3, 1)), np.zeros(3, np.int64)) == HOTTEST
        assert temperature_of(np.zeros((3, 4)), np.zeros(3, np.int64)) == HOTTEST


class TestHybridFigures:
    LOGITS = np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.6, 0.4], [0.45, 0.55]]))
    REFERENCE = np.array([0, 1, 1, 0, 0])
    CLOUD = np.array([1, 1, 1, 0, 1])

    def test_by_hand(self) -> None:
        found = hybrid_figures(self.LOGITS, self.CLOUD, self.REFERENCE, temperature=1.0, threshold=0.75)
        assert (found.samples, found.sure, found.wrong, found.coverage) == (5, 3, 1, 0.6)
        assert found.selective_error == pytest.approx(1 / 3)
        assert found.selective_error_upper == upper_bound(1, 3, 0.05)
        assert found.accuracy == pytest.approx(3 / 5)

    def test_where_none_is_sure_the_cloud_answers_all(self) -> None:
        found = hybrid_figures(self.LOGITS, self.CLOUD, self.REFERENCE, temperature=1.0, threshold=0.95)
        assert (found.sure, found.selective_error, found.selective_error_upper) == (0, None, 1.0)
        assert found.accuracy == pytest.approx((self.CLOUD == self.REFERENCE).mean())

    def test_another_number_of_answers_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="5 logits, 4 answers of the cloud, 5 references"):
            hybrid_figures(self.LOGITS, self.CLOUD[:4], self.REFERENCE, temperature=1.0, threshold=0.95)


def test_the_promise_holds_on_samples_that_it_never_saw() -> None:
    """Of 40 exits, each certified at 90 %, no more than a chance of 1 in 10,000 allows are over alpha."""
    broken = 0
    for seed in range(40):
        found, *_ = calibrated(400, seed=100 + seed, delta=0.1)
        if found.exit.threshold is None:
            continue
        logits, labels = drawn(0.5, seed=1000 + seed, count=20_000)
        figures = hybrid_figures(
            logits, labels, labels, temperature=found.exit.temperature, threshold=found.exit.threshold
        )
        broken += (figures.selective_error or 0.0) > 0.1
    assert broken <= 12


def test_it_needs_neither_torch_nor_scipy() -> None:
    code = "import sys, cloud_worker.build.exits; print({'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
