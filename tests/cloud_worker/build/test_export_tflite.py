"""Torch modules as `head.tflite`."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from cloud_worker.build.export.to_tflite import export_tflite
from schemas.errors import BundleError, ConfigError


def test_without_the_converter_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(ConfigError, match=r"pip install 'splitbus\[build\]'"):
        export_tflite(nn.ReLU().eval(), torch.zeros(1, 2))


class TestWithTheConverter:
    """Runs where the extra `build` is installed; the bytes' use is shown by the committed heads of tests/edge_node."""

    @pytest.fixture(autouse=True)
    def _converter(self) -> None:
        pytest.importorskip("litert_torch", reason="the extra `build` is not installed")

    def test_a_module_becomes_a_tflite_file(self) -> None:
        assert export_tflite(nn.Sequential(nn.Linear(2, 3), nn.ReLU()).eval(), torch.zeros(1, 2))[4:8] == b"TFL3"

    def test_a_module_in_training_mode_is_refused(self) -> None:
        with pytest.raises(BundleError, match="eval mode"):
            export_tflite(nn.ReLU().train(), torch.zeros(1, 2))

    def test_a_module_that_cannot_be_traced_is_refused(self) -> None:
        with pytest.raises(BundleError, match="litert-torch cannot convert"):
            export_tflite(nn.ParameterList().eval(), torch.zeros(1, 2))
