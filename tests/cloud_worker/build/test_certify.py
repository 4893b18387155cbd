from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_worker.build.certify import (
    COLDEST,
    GRID,
    HOTTEST,
    STARTS,
    certify,
    ece,
    fit_temperature,
    issue,
    plain_threshold,
)
from schemas.binomial import lower_tail
from schemas.certificate import parse_certificate
from schemas.errors import CannotCertifyError, ConfigError
from schemas.probability import softmax
from schemas.tensor import Array

DIGEST = "0f" * 32


def samples(*levels: tuple[float, int, int]) -> tuple[Array, Array]:
    """Confidences and wrong: for each level of confidence so many samples, so many of them wrong."""
    confidence = np.concatenate([np.full(count, level) for level, count, _ in levels])
    return confidence, np.concatenate([np.arange(count) < wrong for _, count, wrong in levels])


def drawn(temperature: float, seed: int, count: int = 20_000) -> tuple[Array, Array]:
    """Logits (count, 10) and labels whose chances are the softmax at a temperature."""
    dice = np.random.default_rng(seed)
    logits = dice.normal(size=(count, 10)) * 3
    chances = softmax(logits, temperature).cumsum(axis=1)
    return logits, (dice.random((count, 1)) < chances).argmax(axis=1)


class TestCertify:
    def test_the_lowest_threshold_whose_test_passes_is_taken(self) -> None:
        confidence, wrong = samples((0.97, 300, 2), (0.85, 100, 3), (0.6, 100, 60))
        found = certify(confidence, wrong, 0.05, 0.05, grid=(0.9, 0.8, 0.5), starts=(0.9,))
        assert found == (0.8, 500, 400, 5)
        assert lower_tail(5, 400, 0.05) <= 0.05 < lower_tail(65, 500, 0.05)

    @pytest.mark.parametrize(("covered", "passes"), [(58, False), (59, True)])
    def test_without_errors_it_takes_as_many_samples_as_the_formula_says(self, covered: int, *, passes: bool) -> None:
        assert ((1 - 0.05) ** covered <= 0.05) is passes
        confidence, wrong = samples((0.95, covered, 0))
        if passes:
            assert certify(confidence, wrong, 0.05, 0.05, grid=(0.9,), starts=(0.9,)).covered == covered
            return
        with pytest.raises(CannotCertifyError) as caught:
            certify(confidence, wrong, 0.05, 0.05, grid=(0.9,), starts=(0.9,))
        assert caught.value.more == 1

    def test_a_single_start_ends_at_a_threshold_that_few_reach_and_a_second_goes_on(self) -> None:
        confidence, wrong = samples((0.9995, 5, 0), (0.96, 500, 5))
        with pytest.raises(CannotCertifyError):
            certify(confidence, wrong, 0.05, 0.05, starts=(0.999,))
        assert certify(confidence, wrong, 0.05, 0.05).threshold == 0.3

    def test_what_one_start_has_earned_helps_the_next(self) -> None:
        """59 samples without an error pass at 0.05 and not at half of it."""
        second = samples((0.85, 59, 0))
        with pytest.raises(CannotCertifyError):
            certify(*second, 0.05, 0.05, grid=(0.9, 0.8), starts=(0.9, 0.8))
        first = samples((0.95, 74, 0), (0.85, 34, 2))
        half = [lower_tail(0, 74, 0.05), lower_tail(2, 108, 0.05)]
        assert half[0] <= 0.025 < half[1] <= 0.1
        assert certify(*first, 0.05, 0.1, grid=(0.9, 0.8), starts=(0.9, 0.8)).threshold == 0.8
        with pytest.raises(CannotCertifyError):
            certify(*samples((0.85, 108, 2)), 0.05, 0.1, grid=(0.9, 0.8), starts=(0.9, 0.8))

    def test_after_a_failure_nothing_is_tested_until_the_next_start(self) -> None:
        confidence, wrong = samples((0.95, 40, 20), (0.85, 2000, 0))
        with pytest.raises(CannotCertifyError):
            certify(confidence, wrong, 0.05, 0.05, grid=(0.9, 0.8), starts=(0.9,))

    def test_the_threshold_is_compared_as_the_edge_compares_it(self) -> None:
        confidence, wrong = samples((0.9, 100, 0), (np.nextafter(0.9, 0), 100, 100))
        assert certify(confidence, wrong, 0.05, 0.05, grid=(0.9,), starts=(0.9,)).covered == 100

    def test_the_order_of_the_samples_does_not_matter(self) -> None:
        confidence, wrong = samples((0.9999, 200, 1), (0.95, 400, 4), (0.7, 300, 50))
        order = np.random.default_rng(0).permutation(len(confidence))
        assert certify(confidence[order], wrong[order], 0.03, 0.1) == certify(confidence, wrong, 0.03, 0.1)

    def test_the_chance_of_a_false_promise_is_at_most_delta_by_exact_enumeration(self) -> None:
        """Two thresholds whose risk is just over alpha, all outcomes of 12 samples weighed by their probability."""
        alpha, delta, top, each = Fraction(3, 10), Fraction(1, 4), 6, Fraction(31, 100)
        failing = Fraction(0)
        for high in range(top + 1):
            for low in range(top + 1):
                confidence, wrong = samples((0.95, top, high), (0.85, top, low))
                try:
                    certify(confidence, wrong, float(alpha), float(delta), grid=(0.9, 0.8), starts=(0.9, 0.8))
                except CannotCertifyError:
                    continue
                failing += binomial(high, top, each) * binomial(low, top, each)
        assert 0 < failing <= delta

    @pytest.mark.parametrize("starts", [STARTS, (0.9,)])
    def test_false_promises_are_rare_where_every_threshold_is_just_unsafe(self, starts: tuple[float, ...]) -> None:
        dice, failed = np.random.default_rng(5), 0
        for _ in range(400):
            confidence = 1 - dice.random(300) ** 3 / 2
            try:
                certify(confidence, dice.random(300) < 0.0501, 0.05, 0.1, starts=starts)
                failed += 1
            except CannotCertifyError:
                pass
        assert failed / 400 <= 0.1

    def test_the_exception_says_how_many_samples_would_do_at_best(self) -> None:
        confidence, wrong = samples((0.9, 30, 1), (0.1, 30, 20))
        with pytest.raises(CannotCertifyError, match=r"1 errors among 30 sure; at best \d+ further samples") as caught:
            certify(confidence, wrong, 0.05, 0.05, grid=(0.8,), starts=(0.8,))
        more = caught.value.more
        assert more is not None
        enough = samples((0.9, 30 + more // 2, 1), (0.1, 30 + more // 2, 20))
        assert certify(*enough, 0.05, 0.05, grid=(0.8,), starts=(0.8,)).errors == 1
        short = samples((0.9, 29 + more // 2, 1), (0.1, 30, 20))
        with pytest.raises(CannotCertifyError):
            certify(*short, 0.05, 0.05, grid=(0.8,), starts=(0.8,))

    def test_an_exit_that_errs_more_than_allowed_is_told_so(self) -> None:
        with pytest.raises(CannotCertifyError, match="a better exit"):
            certify(*samples((0.9999, 100, 10)), 0.05, 0.05)

    def test_an_exit_that_is_never_sure_is_told_so(self) -> None:
        with pytest.raises(CannotCertifyError, match="none reaches any start; fit the temperature") as caught:
            certify(*samples((0.5, 100, 0)), 0.05, 0.05)
        assert caught.value.more is None

    @pytest.mark.parametrize(
        ("confidence", "wrong"),
        [
            (np.zeros(0), np.zeros(0, bool)),
            (np.zeros(3), np.zeros(4, bool)),
            (np.zeros(3), np.zeros(3)),
            (np.zeros((3, 1)), np.zeros((3, 1), bool)),
            (np.array([0.5, 1.5]), np.zeros(2, bool)),
            (np.array([0.5, np.nan]), np.zeros(2, bool)),
        ],
    )
    def test_samples_that_do_not_fit_are_refused(self, confidence: Array, wrong: Array) -> None:
        for call in (lambda: certify(confidence, wrong, 0.05, 0.05), lambda: plain_threshold(confidence, wrong, 0.05)):
            with pytest.raises(ConfigError, match="certifying"):
                call()

    @pytest.mark.parametrize(
        "changes",
        [
            {"alpha": 0.0},
            {"alpha": 1.0},
            {"delta": 0.0},
            {"delta": 2.0},
            {"grid": ()},
            {"grid": (0.5, 0.9)},
            {"grid": (0.9, 0.9)},
            {"grid": (1.1, 0.9)},
            {"starts": ()},
            {"starts": (0.123,)},
            {"starts": (0.9, 0.9)},
        ],
    )
    def test_a_promise_that_is_none_is_refused(self, changes: dict[str, object]) -> None:
        options: dict[str, object] = {"alpha": 0.05, "delta": 0.05, "grid": (0.9, 0.8), "starts": (0.9,), **changes}
        with pytest.raises(ConfigError, match="certifying"):
            certify(*samples((0.95, 100, 0)), **options)  # type: ignore[arg-type]

    def test_grid_and_starts_are_what_they_are_for_ever(self) -> None:
        assert (len(GRID), GRID[:4], GRID[-1]) == (142, (0.999, 0.9975, 0.995, 0.99), 0.3)
        assert all(above > below for above, below in pairwise(GRID))
        assert STARTS == (0.999, 0.99, 0.95, 0.8)


def binomial(successes: int, trials: int, chance: Fraction) -> Fraction:
    ways = 1
    for step in range(successes):
        ways = ways * (trials - step) // (step + 1)
    return ways * chance**successes * (1 - chance) ** (trials - successes)


def test_the_plain_threshold_allows_just_alpha_errors_on_its_own_samples() -> None:
    confidence, wrong = samples((0.95, 50, 1), (0.85, 50, 4), (0.75, 50, 20))
    assert plain_threshold(confidence, wrong, 0.05, (0.9, 0.8, 0.7)) == 0.8
    assert plain_threshold(confidence, wrong, 0.01, (0.9, 0.8, 0.7)) is None


class TestTemperature:
    @pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
    def test_the_one_that_made_the_labels_is_found(self, temperature: float) -> None:
        assert fit_temperature(*drawn(temperature, seed=1)) == pytest.approx(temperature, rel=0.03)

    def test_no_other_has_less_loss(self) -> None:
        logits, labels = drawn(1.7, seed=2, count=500)
        best = fit_temperature(logits, labels)

        def loss(temperature: float) -> float:
            return float(-np.log(softmax(logits, temperature)[np.arange(500), labels]).mean())

        assert all(loss(best) <= loss(best * factor) for factor in (0.5, 0.999, 1.001, 2.0))

    @given(st.floats(0.2, 5))
    def test_it_scales_with_the_logits(self, factor: float) -> None:
        logits, labels = drawn(1.0, seed=3, count=200)
        assert fit_temperature(logits * factor, labels) == pytest.approx(
            fit_temperature(logits, labels) * factor, rel=1e-6
        )

    def test_answers_that_are_all_right_or_all_wrong_end_at_the_limits(self) -> None:
        logits = np.eye(3)
        assert fit_temperature(logits, np.arange(3)) == COLDEST
        assert fit_temperature(logits, (np.arange(3) + 1) % 3) == HOTTEST

    def test_even_logits_say_nothing(self) -> None:
        assert fit_temperature(np.zeros((4, 3)), np.zeros(4, np.int64)) == HOTTEST

    @pytest.mark.parametrize(
        ("logits", "labels"),
        [
            (np.zeros((3, 2)), np.zeros(4, np.int64)),
            (np.zeros((0, 2)), np.zeros(0, np.int64)),
            (np.zeros(3), np.zeros(3, np.int64)),
            (np.zeros((3, 2)), np.zeros(3)),
            (np.zeros((3, 2)), np.full(3, 2)),
            (np.zeros((3, 2)), np.full(3, -1)),
            (np.full((3, 2), np.inf), np.zeros(3, np.int64)),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, logits: Array, labels: Array) -> None:
        for function in (fit_temperature, ece):
            with pytest.raises(ConfigError):
                function(logits, labels)


class TestEce:
    def test_by_hand(self) -> None:
        chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
        labels = np.array([0, 1, 0, 1])
        wanted = (2 * abs(0.9 - 0.5) + abs(0.6 - 1) + abs(0.7 - 1)) / 4
        assert ece(chances, labels, bins=10) == pytest.approx(wanted)
        assert ece(chances, labels, bins=1) == pytest.approx(abs((0.9 + 0.9 + 0.6 + 0.7) / 4 - 0.75))

    def test_a_bin_is_closed_above(self) -> None:
        chances = np.array([[0.5, 0.5], [0.51, 0.49]])
        assert ece(chances, np.array([1, 0]), bins=2) == pytest.approx((0.5 + 0.49) / 2)

    def test_chances_that_are_true_have_hardly_any_and_a_wrong_temperature_has(self) -> None:
        logits, labels = drawn(1.5, seed=4)
        assert ece(softmax(logits, 1.5), labels) < 0.015
        assert ece(softmax(logits, 0.7), labels) > 0.1

    def test_no_bins_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="at least 1"):
            ece(np.array([[0.5, 0.5]]), np.array([0]), bins=0)


class TestIssue:
    def test_a_certificate_reads_back_and_its_counts_are_those_of_the_edge_rule(self) -> None:
        logits, labels = drawn(0.5, seed=6, count=3000)
        found = issue(logits, labels, mode="labels", temperature=0.5, alpha=0.1, delta=0.05, subject=DIGEST)
        assert parse_certificate(found.model_dump_json().encode()) == found
        sure = softmax(logits, 0.5).max(axis=1) >= found.threshold
        assert (found.covered, found.errors) == (sure.sum(), (sure & (logits.argmax(axis=1) != labels)).sum())
        assert found.risk < found.risk_upper <= found.alpha
        assert found.ece_after < found.ece_before
        assert found.coverage > 0.3

    def test_without_labels_it_is_about_the_cloud_answers(self) -> None:
        logits, labels = drawn(0.5, seed=7, count=2000)
        cloud = np.where(np.random.default_rng(8).random(2000) < 0.5, logits.argmax(axis=1), labels)
        options = {"temperature": 0.5, "alpha": 0.05, "delta": 0.05, "subject": DIGEST}
        against = issue(logits, cloud, mode="agreement", **options)  # type: ignore[arg-type]
        labelled = issue(logits, labels, mode="labels", **options)  # type: ignore[arg-type]
        assert against.mode == "agreement"
        assert against.coverage > labelled.coverage

    def test_labels_for_other_samples_are_refused(self) -> None:
        logits, labels = drawn(0.5, seed=9, count=20)
        with pytest.raises(ConfigError, match=r"got float64\[20, 10\] and int64\[19\]"):
            issue(logits, labels[:19], mode="labels", temperature=1, alpha=0.1, delta=0.1, subject=DIGEST)

    @pytest.mark.parametrize("changes", [{"temperature": 0.0}, {"temperature": np.inf}, {"subject": "head"}])
    def test_what_cannot_stand_in_a_certificate_is_refused(self, changes: dict[str, object]) -> None:
        options: dict[str, object] = {"temperature": 1.0, "subject": DIGEST, **changes}
        with pytest.raises(ConfigError, match="64 hex digits"):
            issue(*drawn(0.5, seed=9, count=20), mode="labels", alpha=0.1, delta=0.1, **options)  # type: ignore[arg-type]


def test_it_needs_neither_torch_nor_scipy() -> None:
    code = "import sys, cloud_worker.build.certify; print({'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
