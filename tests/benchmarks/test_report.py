"""What benchmarks print."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks.kpi import ModeResult, wilson
from benchmarks.report import Quantiles, Report, Target


@pytest.mark.parametrize(
    ("target", "ok"),
    [
        (Target("t", 1.0, "<=", 1.0), True),
        (Target("t", 1.1, "<=", 1.0), False),
        (Target("t", 0.9, ">=", 1.0), False),
        (Target("t", 0, "==", 0), True),
        (Target("t", math.nan, "<=", 1), False),
    ],
)
def test_a_target_is_met_only_when_the_value_is_as_it_must_be(target: Target, ok: bool) -> None:  # noqa: FBT001
    assert target.ok is ok


def test_json_is_one_object_with_versions_rows_and_targets(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("b", rows=[{"a": 1}], targets=[Target("t", 1.0, "<=", 2.0)])
    report.print(as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["targets"] == [{"name": "t", "value": 1.0, "target": "<= 2", "ok": True}]
    assert "numpy" in printed["versions"]


def test_quantiles_of_nothing_are_not_a_number() -> None:
    assert math.isnan(Quantiles.of([]).p50)


def test_quantiles_are_those_of_the_values() -> None:
    assert Quantiles.of([float(n) for n in range(101)]).fields("ms") == {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}


def test_wilson_interval_holds_the_share_and_narrows_with_the_count() -> None:
    few, many = wilson(0.9, 100), wilson(0.9, 10_000)
    assert few[0] < many[0] < 0.9 < many[1] < few[1]


def test_a_mode_counts_what_was_right_and_what_was_shipped() -> None:
    def outcome(label: int, truth: int, attempts: int) -> dict[str, object]:
        times = {"total": 1.0}
        return {
            "label": label,
            "truth": truth,
            "attempts": attempts,
            "payload_bytes": 98 * bool(attempts),
            "times_ms": times,
            "cost": 0.0,
            "batch": 2 * bool(attempts),
            "source": "edge",
            "deadline_ms": 10.0,
        }

    result = ModeResult("hybrid", [outcome(1, 1, 0), outcome(2, 1, 1)], socket_up=300, socket_down=100)
    row = result.row()
    assert (row["accuracy"], row["shipped"], row["payload_bytes_shipped"], row["bytes_up"]) == (0.5, 0.5, 98, 150)
    assert result.batches == {2: 1}


def test_a_report_that_shows_itself_prints_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[str] = []
    report = Report("b", rows=[{"a": 1}], show=lambda: shown.append("as I like it"))
    report.print(as_json=False)
    assert (shown, capsys.readouterr().out) == (["as I like it"], "")
    report.print(as_json=True)
    assert json.loads(capsys.readouterr().out)["rows"] == [{"a": 1}]
    assert len(shown) == 1
