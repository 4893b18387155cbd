from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.binomial import upper_bound
from schemas.certificate import MAX_CERTIFICATE_BYTES, Certificate, parse_certificate
from schemas.errors import BundleError

FIELDS: dict[str, Any] = {
    "mode": "labels",
    "subject": "5a" * 32,
    "alpha": 0.05,
    "delta": 0.1,
    "samples": 1000,
    "grid": [0.99, 0.9, 0.8],
    "starts": [0.99, 0.8],
    "tested": [[500, 5], [800, 20], [1000, 70]],
    "threshold": 0.9,
    "covered": 800,
    "errors": 20,
    "coverage": 0.8,
    "risk": 0.025,
    "risk_upper": upper_bound(20, 800, 0.1),
    "temperature": 1.5,
    "ece_before": 0.04,
    "ece_after": 0.01,
}


def written(**changes: Any) -> bytes:
    return json.dumps({**FIELDS, **changes}).encode()


def test_what_was_written_is_read_back_equal() -> None:
    certificate = parse_certificate(written())
    assert parse_certificate(certificate.model_dump_json().encode()) == certificate
    assert parse_certificate(certificate.to_bytes()) == certificate
    assert len(certificate.to_bytes().splitlines()) == len(Certificate.model_fields) + 2
    assert certificate == Certificate.model_validate(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_named(name: str) -> None:
    rest = {key: value for key, value in FIELDS.items() if key != name}
    with pytest.raises(BundleError, match=f"{name}: Field required"):
        parse_certificate(json.dumps(rest).encode())


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("format", 2, "format"),
        ("surprise", 1, "surprise"),
        ("mode", "hope", "mode"),
        ("subject", "5A" * 32, "subject"),
        ("alpha", 0, "alpha"),
        ("alpha", 0.03, "is over alpha 0.03"),
        ("delta", 1.0, "delta"),
        ("delta", 0.05, "risk_upper is"),
        ("samples", 0, "samples"),
        ("samples", 1000.0, "samples"),
        ("samples", True, "samples"),
        ("samples", 799, "cannot be"),
        ("grid", [], "grid"),
        ("grid", [0.8, 0.9, 0.99], "does not fall"),
        ("grid", [0.99, 0.9, 0.9, 0.8], "does not fall"),
        ("grid", [1 - index / 513 for index in range(513)], "at most 512 items"),
        ("starts", [0.5], "not on the grid"),
        ("starts", [0.8, 0.8], "stands twice"),
        ("starts", [0.8], "the tests do not prove threshold 0.9"),
        ("tested", [[500, 5], [800, 20]], "2 pairs of counts, the grid 3 thresholds"),
        ("tested", [[500, 5, 1], [800, 20], [1000, 70]], "tested"),
        ("tested", [[5, 500], [800, 20], [1000, 70]], "500 wrong of 5 cannot follow 0 of 0"),
        ("tested", [[800, 20], [500, 5], [1000, 70]], "5 wrong of 500 cannot follow 20 of 800"),
        ("tested", [[500, 5], [800, 20], [810, 70]], "70 wrong of 810 cannot follow"),
        ("tested", [[500, 5], [800, 20], [1001, 70]], "1001 samples at its last threshold, of 1000"),
        ("tested", [[500, 5], [801, 20], [1000, 70]], "at the threshold"),
        ("tested", [[500, 20], [800, 20], [1000, 70]], "the tests do not prove threshold 0.9"),
        ("tested", [[500, -5], [800, 20], [1000, 70]], "tested"),
        ("threshold", 0.95, "not on the grid"),
        ("threshold", "0.9", "threshold"),
        ("covered", 0, "covered"),
        ("errors", 801, "cannot be"),
        ("errors", 21, "the counts give"),
        ("coverage", 0.81, "coverage is 0.81, the counts give 0.8"),
        ("risk", 0.02, "risk is 0.02"),
        ("risk_upper", 0.01, "certify again"),
        ("temperature", 0, "temperature"),
        ("ece_before", -0.1, "ece_before"),
        ("ece_after", 1.1, "ece_after"),
    ],
)
def test_a_figure_that_cannot_be_is_named(name: str, value: Any, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        parse_certificate(written(**{name: value}))


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b"\xff", b"[" * 10_000, written() + b"x"])
def test_what_is_not_a_certificate_is_a_bundle_error(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"certificate\.json cannot be used"):
        parse_certificate(data)


def test_a_certificate_over_the_cap_is_refused_before_it_is_read() -> None:
    with pytest.raises(BundleError, match="the cap is"):
        parse_certificate(b" " * (MAX_CERTIFICATE_BYTES + 1))


@given(st.data())
def test_one_byte_changed_is_read_or_is_a_bundle_error(data: st.DataObject) -> None:
    whole = bytearray(written())
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_certificate(bytes(whole))
    except BundleError as error:
        assert str(error)  # noqa: PT017


def test_a_threshold_may_be_stricter_than_the_lowest_that_is_proven() -> None:
    risk_upper = upper_bound(5, 500, 0.1)
    stricter = written(threshold=0.99, covered=500, errors=5, coverage=0.5, risk=0.01, risk_upper=risk_upper)
    assert parse_certificate(stricter).threshold == 0.99


def test_the_longest_certificate_is_within_the_cap() -> None:
    grid = [1 - index / 12_345 for index in range(512)]
    longest = written(grid=grid, starts=grid, tested=[[1 << 22, 1 << 9]] * 512, threshold=grid[0])
    assert len(longest) < MAX_CERTIFICATE_BYTES


@pytest.mark.parametrize(
    ("mode", "delta", "words"),
    [
        ("labels", 0.05, "at most 2 % wrong among its sure answers, with 95 % confidence (labels)"),
        ("labels", 0.001, "at most 2 % wrong among its sure answers, with 99.9 % confidence (labels)"),
        (
            "agreement",
            0.07,
            "at most 2 % other than the cloud's among its sure answers, with 93 % confidence (agreement)",
        ),
    ],
)
def test_the_promise_is_said_in_words(mode: str, delta: float, words: str) -> None:
    kept = {"covered": 800, "errors": 1, "risk": 1 / 800, "tested": [[500, 0], [800, 1], [1000, 70]]}
    bound = upper_bound(1, 800, delta)
    certificate = parse_certificate(written(mode=mode, alpha=0.02, delta=delta, risk_upper=bound, **kept))
    assert certificate.promise == words


BELONGS: dict[str, Any] = {"pairing": "5a" * 32, "temperature": 1.5, "threshold": 0.9, "coverage": 0.8}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("pairing", "5b" * 32, r"subject is 5a5a5a5a5a5a5a5a\.\.\., the manifest's pairing is 5b5b5b5b5b5b5b5b"),
        ("temperature", 1.25, r"temperature is 1\.5, the manifest's exit\.temperature is 1\.25"),
        ("threshold", 0.8, r"threshold is 0\.9, the manifest's exit\.threshold is 0\.8"),
        ("threshold", None, r"threshold is 0\.9, the manifest's exit\.threshold is None"),
        ("coverage", 0.81, r"coverage is 0\.8, the manifest's exit\.coverage is 0\.81"),
    ],
)
def test_a_certificate_of_another_exit_is_told_apart(name: str, value: Any, says: str) -> None:
    certificate = parse_certificate(written())
    certificate.check_belongs(**BELONGS)
    with pytest.raises(BundleError, match=says):
        certificate.check_belongs(**{**BELONGS, name: value})


def test_the_largest_counts_are_checked_in_an_instant() -> None:
    most = (1 << 24) - 1
    with pytest.raises(BundleError, match="the counts give"):
        parse_certificate(written(samples=most, covered=most, errors=most // 2, coverage=1.0, risk=0.5))
