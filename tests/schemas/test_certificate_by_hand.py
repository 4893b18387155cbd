"""A stranger checks certificates with docs/bundle.md in hand: exact fractions, and nothing of ours but the last line.

The golden one is of the committed Fashion-MNIST pair: temperature from one half of its 5,000 calibration images, the
counts from the other.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from itertools import pairwise
from math import comb
from pathlib import Path
from typing import Any

import pytest

from schemas.certificate import Certificate, parse_certificate
from schemas.errors import BundleError
from tests.golden.store import FOLDER

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "bundle.md").read_text()
EXAMPLE = re.search(r"^```json certificate\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
GOLDEN = (FOLDER / "certificate.json").read_bytes()
MANIFEST = ROOT / "models" / "fashion_mnist" / "bundle" / "manifest.json"
COMMITTED = (MANIFEST.parent / "certificate.json").read_bytes()
CLOSE = Fraction(1, 10**9)

Step = tuple[Fraction, Fraction, Fraction | None, bool]
"""Threshold, level, p-value where it was tested, whether it is proven."""


def texts() -> dict[str, str]:
    assert EXAMPLE is not None
    return {"golden": GOLDEN.decode(), "example": EXAMPLE[1], "committed": COMMITTED.decode()}


def read(name: str) -> dict[str, Any]:
    """Numbers as the decimal fractions that are written there."""
    loaded: dict[str, Any] = json.loads(texts()[name], parse_float=Fraction)
    return loaded


def tail(k: int, n: int, chance: Fraction) -> Fraction:
    """P(X <= k) for X ~ Binomial(n, chance), in integers until the last division."""
    a, whole = chance.numerator, chance.denominator
    return Fraction(sum(comb(n, i) * a**i * (whole - a) ** (n - i) for i in range(k + 1)), whole**n)


def steps(told: dict[str, Any]) -> list[Step]:
    """Steps 2 and 3 of the page."""
    level, found = Fraction(0), list[Step]()
    for threshold, (n, k) in zip(told["grid"], told["tested"], strict=True):
        part = told["delta"] / len(told["starts"]) if threshold in told["starts"] else Fraction(0)
        level = min(told["delta"], level + part)
        p_value = tail(k, n, told["alpha"]) if level else None
        is_proven = p_value is not None and p_value <= level
        found.append((threshold, level, p_value, is_proven))
        level = level if is_proven else Fraction(0)
    return found


@pytest.mark.parametrize("name", ["golden", "example", "committed"])
def test_the_counts_may_be(name: str) -> None:
    told = read(name)
    assert all(above > below for above, below in pairwise(told["grid"]))
    assert set(told["starts"]) <= set(told["grid"])
    assert all(0 <= k2 - k1 <= n2 - n1 for (n1, k1), (n2, k2) in pairwise([[0, 0], *told["tested"]]))
    assert told["tested"][-1][0] <= told["samples"]


@pytest.mark.parametrize("name", ["golden", "example", "committed"])
def test_the_threshold_is_the_lowest_that_is_proven(name: str) -> None:
    told = read(name)
    assert [threshold for threshold, *_, is_proven in steps(told) if is_proven][-1] == told["threshold"]


@pytest.mark.parametrize("name", ["golden", "example", "committed"])
def test_the_figures_are_those_at_the_threshold(name: str) -> None:
    told = read(name)
    n, k = told["covered"], told["errors"]
    assert [n, k] == told["tested"][told["grid"].index(told["threshold"])]
    assert abs(told["coverage"] - Fraction(n, told["samples"])) <= CLOSE
    assert abs(told["risk"] - Fraction(k, n)) <= CLOSE
    bound = told["risk_upper"].limit_denominator(10**12)
    assert tail(k, n, bound - CLOSE) > told["delta"] > tail(k, n, bound + CLOSE)
    assert bound <= told["alpha"]


def test_the_steps_on_the_page_are_those_of_its_example() -> None:
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) \| (\d+) \| (\d+) \| ([\d.]*) ?\| (.*) \|$", PAGE, re.MULTILINE)
    told = read("example")
    wanted = [
        (
            f"{float(threshold):g}",
            f"{float(level):g}",
            *map(str, counts),
            "" if p_value is None else f"{float(p_value):.4f}",
            "not tested" if p_value is None else "proven" if is_proven else "not proven",
        )
        for (threshold, level, p_value, is_proven), counts in zip(steps(told), told["tested"], strict=True)
    ]
    assert rows == wanted


@pytest.mark.parametrize("name", ["golden", "example", "committed"])
def test_our_reader_takes_it_too(name: str) -> None:
    assert parse_certificate(texts()[name].encode()).threshold == float(read(name)["threshold"])


def test_the_golden_certificate_keeps_its_bytes_and_the_committed_one_is_of_the_committed_pair() -> None:
    for text in (GOLDEN, COMMITTED):
        assert parse_certificate(text).to_bytes() == text
    assert parse_certificate(COMMITTED).subject == json.loads(MANIFEST.read_text())["pairing"]


def test_every_prefix_of_the_golden_certificate_is_refused() -> None:
    whole = GOLDEN.rstrip()
    for length in range(0, len(whole), 7):
        with pytest.raises(BundleError, match="cannot be used"):
            parse_certificate(whole[:length])


@pytest.mark.parametrize("place", range(len(json.loads(GOLDEN)["grid"])))
def test_flipped_counts_are_noticed_wherever_they_stand(place: int) -> None:
    told = json.loads(GOLDEN)
    n, k = told["tested"][place]
    told["tested"][place] = [k, n]
    with pytest.raises(BundleError, match="cannot follow"):
        parse_certificate(json.dumps(told).encode())


def test_the_reader_and_the_stranger_agree_on_counts_that_were_tampered_with() -> None:
    """More errors at the start that the proof rests on: the reader refuses exactly when the page does."""
    verdicts = set()
    for errors in range(26):
        told = json.loads(GOLDEN, parse_float=Fraction)
        until = told["grid"].index(told["threshold"])
        told["tested"] = [
            [n, max(k, min(errors, n))] if i < until else [n, k] for i, (n, k) in enumerate(told["tested"])
        ]
        holds = told["threshold"] in [threshold for threshold, *_, is_proven in steps(told) if is_proven]
        data = json.dumps({name: plain(value) for name, value in told.items()}).encode()
        verdicts.add(holds)
        if holds:
            assert isinstance(parse_certificate(data), Certificate)
        else:
            with pytest.raises(BundleError, match="the tests do not prove"):
                parse_certificate(data)
    assert verdicts == {True, False}


def plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return float(value)
    return [plain(each) for each in value] if isinstance(value, list) else value
