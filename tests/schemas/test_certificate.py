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
    assert certificate == Certificate(**{**FIELDS, "grid": (0.99, 0.9, 0.8), "starts": (0.99, 0.8)})


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
        ("starts", [0.5], "not on the grid"),
        ("starts", [0.8, 0.8], "stands twice"),
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


def test_the_largest_counts_are_checked_in_an_instant() -> None:
    most = (1 << 24) - 1
    with pytest.raises(BundleError, match="the counts give"):
        parse_certificate(written(samples=most, covered=most, errors=most // 2, coverage=1.0, risk=0.5))
