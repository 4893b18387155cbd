"""Heads as int8 TFLite, run as the edge node runs them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cloud_worker.build.export.to_tflite import export_tflite
from cloud_worker.build.export.to_tflite_int8 import MOST_SAMPLES, export_tflite_int8, quantised
from edge_node.tflite_head import TFLiteHead
from schemas.errors import BundleError, ConfigError
from schemas.tensor import FloatArray
from tests.edge_node.head_files import DATA, SMALL, TWINS, expected, manifest


def test_without_the_quantiser_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(ConfigError, match=r"pip install 'splitbus\[build\]'.*--int8"):
        quantised(b"", np.zeros((1, 2), np.float32))


def noise(*shape: int) -> FloatArray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


class Switched(nn.Module):
    """(1, 4) -> cut (1, 3); training has switched the second channel off but for its bias."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Linear(4, 3)
        with torch.no_grad():
            self.cut.weight[1] = 1e-9
            self.cut.bias[1] = 5.0

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.cut(x))


class TestWithTheQuantiser:
    """Runs where the extra `build` is installed; the bytes' use is shown by the committed head of tests/edge_node."""

    @pytest.fixture(autouse=True)
    def _quantiser(self) -> None:
        pytest.importorskip("ai_edge_quantizer", reason="the extra `build` is not installed")

    @pytest.mark.parametrize(("net", "fields"), [("small", SMALL), ("plain", SMALL), ("twins", TWINS)])
    def test_a_head_stays_near_the_float_one_with_the_same_outputs(self, net: str, fields: dict[str, Any]) -> None:
        has_exit = net != "plain"
        inputs, cuts, logits = expected(net)
        made = quantised((DATA / f"{net}.tflite").read_bytes(), np.concatenate([noise(64, *inputs.shape[1:]), inputs]))
        head = TFLiteHead(made, manifest(fields, has_exit=has_exit))
        for index, sample in enumerate(inputs):
            found = head.run(sample)
            assert np.abs(found.cut - cuts[index]).max() < 0.06 * np.abs(cuts).max()
            assert (found.logits is None) == (logits is None)
            if found.logits is not None and logits is not None:
                assert np.abs(found.logits - logits[index]).max() < 0.06 * np.abs(logits).max()

    def test_a_channel_that_is_switched_off_keeps_its_bias(self) -> None:
        torch.manual_seed(0)
        made = export_tflite_int8(Switched().eval(), torch.zeros(1, 4), noise(64, 4))
        cut = TFLiteHead(made, manifest(TWINS, has_exit=False)).run(noise(4)).cut
        assert cut[1] == pytest.approx(5.0, rel=0.01)

    def test_only_so_many_samples_are_used(self) -> None:
        samples = noise(MOST_SAMPLES + 1, 4)
        samples[MOST_SAMPLES:] = np.nan
        assert quantised((DATA / "twins.tflite").read_bytes(), samples)[4:8] == b"TFL3"

    @pytest.mark.parametrize("samples", [np.zeros((0, 4), np.float32), np.full((2, 4), np.nan, np.float32)])
    def test_samples_that_calibrate_nothing_are_refused(self, samples: FloatArray) -> None:
        with pytest.raises(BundleError, match="finite samples"):
            quantised((DATA / "twins.tflite").read_bytes(), samples)

    def test_samples_of_another_shape_are_refused(self) -> None:
        with pytest.raises(BundleError, match=r"cannot quantise the head.*without --int8"):
            quantised((DATA / "twins.tflite").read_bytes(), noise(8, 5))

    def test_a_module_that_cannot_be_converted_is_refused(self) -> None:
        with pytest.raises(BundleError, match="litert-torch cannot convert"):
            export_tflite_int8(nn.ParameterList().eval(), torch.zeros(1, 2), noise(8, 2))

    def test_a_float_model_is_needed(self) -> None:
        with pytest.raises(BundleError, match="cannot quantise the head"):
            quantised(b"no model at all", noise(8, 4))

    def test_the_float_model_is_left_alone(self) -> None:
        module = Switched().eval()
        model = export_tflite(module, torch.zeros(1, 4))
        kept = bytes(model)
        quantised(model, noise(8, 4))
        assert model == kept
