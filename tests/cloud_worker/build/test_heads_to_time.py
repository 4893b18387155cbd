"""Heads for a device, and its times in the profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud_worker.build.measure import heads_to_time
from cloud_worker.build.measure.heads_to_time import export_heads, on_device
from cloud_worker.build.measure.profiling import worth_measuring
from edge_node.verb_profile import heads_in, profile
from schemas.device_times import DeviceTimes, parse_device_times
from schemas.errors import ConfigError
from tests.cloud_worker.build.profile_models import image_graph, image_profile


def times(**entries: float) -> DeviceTimes:
    """Of files by stem, `cut_0002=1.5`; p95 is a tenth more."""
    made: list[dict[str, Any]] = [
        {"file": f"{stem.replace('_', '-')}.npz", "sha256": "0" * 64, "p50_ms": took, "p95_ms": took * 1.1}
        for stem, took in entries.items()
    ]
    return DeviceTimes.model_validate({"device": "a board", "runtime": "numpy", "entries": made})


def test_heads_are_written_timed_and_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_to_time, "has_converter", lambda: False)
    graph, every = image_graph()
    chosen = worth_measuring(every)
    written = export_heads(graph, chosen, tmp_path / "heads")
    assert dict(written.left_out) == {}
    assert {path.name for path in written.files.values()} == {
        "whole.npz",
        *(f"cut-{cut.index:04d}.npz" for cut in chosen),
    }
    measured = profile(heads_in([tmp_path / "heads"]), 0.0, lambda _: None)
    assert parse_device_times(measured.model_dump_json().encode()) == measured
    merged = on_device(image_profile(), measured)
    assert merged.estimated == ()
    assert merged.profile.edge.runtime == "numpy"
    by_file = {entry.file: entry.p50_ms for entry in measured.entries}
    for cut in merged.profile.cuts:
        assert cut.edge_ms.p50 == by_file[f"cut-{cut.index:04d}.npz"]
    assert merged.profile.edge_only.edge_ms.p50 == by_file["whole.npz"]
    assert merged.profile.cloud == image_profile().cloud


def test_heads_that_were_not_timed_are_estimated_by_their_work() -> None:
    before = image_profile()
    first, last = before.cuts[0], before.cuts[-1]
    merged = on_device(before, times(**{f"cut_{first.index:04d}": 1.0, f"cut_{last.index:04d}": 4.0}))
    assert merged.estimated == (0, *(cut.index for cut in before.cuts[1:-1]))
    for cut in merged.profile.cuts[1:-1]:
        share = (cut.head_macs - first.head_macs) / (last.head_macs - first.head_macs)
        assert cut.edge_ms.p50 == pytest.approx(1 + 3 * share)
        assert cut.edge_ms.p95 == pytest.approx(1.1 * (1 + 3 * share))
    whole = merged.profile.edge_only.edge_ms
    assert whole.p50 == pytest.approx(4 * before.full_macs / last.head_macs)
    assert merged.profile.edge.device == "a board"
    assert [cut.cloud_ms for cut in merged.profile.cuts] == [cut.cloud_ms for cut in before.cuts]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"head": 1.0}, "not named after a cut"),
        ({"cut_9999": 1.0}, "not in the profile"),
        ({"whole": 1.0, "cut_0000": 1.0}, "twice"),
    ],
)
def test_times_that_are_not_of_this_profile(entries: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        on_device(image_profile(), times(**entries))


@pytest.mark.parametrize("data", [b"", b"{}", b'{"device": "x", "runtime": "y", "entries": []}', b"x" * (1 << 21)])
def test_times_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(ConfigError, match="the device's times"):
        parse_device_times(data)
