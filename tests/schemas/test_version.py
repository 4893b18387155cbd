from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.version import Version

number = st.integers(0, 999_999)
versions = st.builds(Version, number, number, number)


@given(versions)
def test_parsing_what_was_printed_gives_the_same_version(version: Version) -> None:
    assert Version.parse(str(version)) == version


@given(versions, versions)
def test_versions_are_ordered_as_numbers(one: Version, other: Version) -> None:
    assert (one < other) == ((one.major, one.minor, one.patch) < (other.major, other.minor, other.patch))


@given(versions, versions)
def test_versions_go_together_exactly_when_they_are_of_one_line(one: Version, other: Version) -> None:
    assert one.compatible_with(other) == other.compatible_with(one) == (one.line == other.line)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "1.2.3 ",
        " 1.2.3",
        "1.2.3\n",
        "v1.2.3",
        "01.2.3",
        "1.02.3",
        "1.2.-3",
        "1.2.3-rc1",
        "1.2.3+b",
        "1..3",
        "1,2,3",
        "\u0661.\u0662.\u0663",
        "1.2.\u00b2",
        "1_0.2.3",
        "1.2.1000000",
        "1.2." + "9" * 5000,
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write major.minor.patch"):
        Version.parse(text)
