"""`python -m benchmarks regret`: a small net, planned, built and run by real processes over one shaped link."""

from __future__ import annotations

import argparse
import math

import pytest

from benchmarks import regret


@pytest.mark.timeout(150)  # six processes, three of which load torch
async def test_what_was_predicted_stands_beside_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so that what the benchmark sets is undone
    report = await regret.run(argparse.Namespace(quick=True))
    cut, whole = sorted(report.rows, key=lambda row: -row["macs_share"])
    assert "through transform" in cut["candidate"]
    assert "cut 0 (input) through input format=webp" in whole["candidate"]
    for row in report.rows:
        assert row["link"] == "DSL"
        assert min(row["predicted_p50_ms"], row["measured_p50_ms"]) > 20  # the round trip
        assert row["measured_cloud_compute_ms"] > 0
        assert row["rounds_p50_ms"] == [row["measured_p50_ms"]]
    (target,) = report.targets
    assert target.value >= 0
    assert math.isfinite(target.value)
    assert target.target == 0.05
