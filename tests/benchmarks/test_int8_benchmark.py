"""`python -m benchmarks int8`: on the committed bundle where the quantiser is installed, refused where it is not."""

from __future__ import annotations

import argparse

import pytest

from benchmarks import int8
from cloud_worker.build.export.to_tflite import has_converter
from schemas.errors import ConfigError


async def test_without_the_quantiser_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "has_converter", lambda: False)
    with pytest.raises(ConfigError, match=r"splitbus\[build,bench\]"):
        await int8.run(argparse.Namespace(quick=True))


@pytest.mark.skipif(not has_converter(), reason="the extra `build` is not installed")
async def test_the_committed_head_shrinks_and_answers_nearly_the_same() -> None:
    report = await int8.run(argparse.Namespace(quick=True))
    (row,) = report.rows
    assert row["int8_bytes"] < 0.6 * row["float32_bytes"]
    assert 0 < row["kl_added"] < 0.1
