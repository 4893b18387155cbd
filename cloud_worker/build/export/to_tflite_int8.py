"""A float32 TFLite head as int8, by ai-edge-quantizer, which comes with litert-torch.

Static post-training quantisation (Jacob et al. 2018): weights int8 for each channel, activations int8 by their range on
samples, biases int32; inputs and outputs stay float32, so that the edge node sees no difference.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from cloud_worker.build.export.to_tflite import export_tflite
from schemas.errors import BundleError, ConfigError
from schemas.tensor import Array, FloatArray

MOST_SAMPLES: Final = 256
_CONV_2D, _DEPTHWISE_CONV_2D, _FULLY_CONNECTED = 3, 4, 9
"""Codes of TFLite's operations that have a weight and a bias; of the second the channels are the last axis."""
_WEIGHT_LEVELS, _ACTIVATION_LEVELS = 127, 255
_BIAS_LEVELS: Final = 1 << 30
_WITH_BIAS: Final = 3


def export_tflite_int8(head: nn.Module, example: torch.Tensor, samples: FloatArray) -> bytes:
    """The bytes of an int8 TFLite model, calibrated on preprocessed samples float32 (N, ...).

    Raises as `export_tflite` and `quantised` do.
    """
    return quantised(export_tflite(head, example), samples)


def quantised(model: bytes, samples: FloatArray) -> bytes:
    """The int8 model of a float32 one of a single input, calibrated on the first 256 samples float32 (N, ...).

    Raises ConfigError when ai-edge-quantizer is not installed, BundleError without samples, for samples that are not
    finite, and when it cannot quantise the model.
    """
    try:
        from ai_edge_quantizer import quantizer  # noqa: PLC0415 - heavy, and only a build needs it
    except ImportError as error:
        msg = f"ai-edge-quantizer cannot be imported ({error}); pip install 'splitbus[build]', or build without --int8"
        raise ConfigError(msg) from None
    used = samples[:MOST_SAMPLES]
    if not len(used) or not np.isfinite(used).all():
        msg = f"an int8 head needs finite samples to calibrate on, {len(used)} were given; give some, none with NaN"
        raise BundleError(msg)
    lifted = bytearray(model)
    try:
        with _quiet():
            recipes = _recipes()
            ranges = _ranges(lifted, used, recipes)
            _lift(lifted, ranges)
            whole = quantizer.Quantizer(lifted, recipes.get_quantization_recipe())
            made = whole.quantize(ranges, enable_progress_report=False)
            return bytes(made.quantized_model)
    except Exception as error:  # the quantiser raises whatever it meets in the model
        reason = " ".join(str(error).split())[:300]
        msg = f"ai-edge-quantizer cannot quantise the head ({type(error).__name__}: {reason}); build without --int8"
        raise BundleError(msg) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without its bars and its warnings; a number that does not fit its type is an error."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", "invalid value encountered", RuntimeWarning)
        yield


def _recipes() -> Any:
    """The quantiser's manager with our recipe: everything to int8 but for the model's own inputs and outputs."""
    from ai_edge_quantizer import recipe_manager  # noqa: PLC0415
    from ai_edge_quantizer.algorithm_manager import AlgorithmName  # noqa: PLC0415
    from ai_edge_quantizer.qtyping import TFLOperationName  # noqa: PLC0415

    manager = recipe_manager.RecipeManager()
    manager.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    for border in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        manager.add_quantization_config(".*", border, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return manager


def _ranges(model: bytearray, samples: Array, recipes: Any) -> dict[str, dict[str, Array]]:
    """The least and the largest value of every activation, by its tensor's name.

    The quantiser's own default, a moving average over the samples, cuts off what only some of them reach.
    """
    from ai_edge_quantizer import calibrator  # noqa: PLC0415
    from ai_edge_quantizer.utils import qsv_utils  # noqa: PLC0415

    watching = calibrator.Calibrator(model, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    watching.calibrate(_rows_of(model, samples), recipes)
    found: dict[str, dict[str, Array]] = watching.get_model_qsvs()
    return found


def _read(model: bytearray) -> Any:
    """The model as objects; its buffers are views of the bytes."""
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils  # noqa: PLC0415

    return tfl_flatbuffer_utils.read_model(memoryview(model))


def _rows_of(model: bytearray, samples: Array) -> dict[str, list[dict[str, Array]]]:
    """The samples as the quantiser takes them: by signature, one input each."""
    signature = _read(model).signatureDefs[0]
    name = signature.inputs[0].name.decode()
    return {signature.signatureKey.decode(): [{name: sample[None]} for sample in samples]}


def _lift(model: bytearray, ranges: Mapping[str, Mapping[str, Array]]) -> None:
    """Give every channel a weight so large that its bias fits into int32, in place.

    A bias is counted in steps of (input's step) x (channel's step). A channel that training has switched off keeps a
    bias and weights of 1e-9, and its bias leaves int32 and comes back with the other sign. One weight of such a channel
    is raised to what the bias needs; that moves the output by at most 3e-5 of the bias.
    """
    parsed = _read(model)
    for graph in parsed.subgraphs:
        for operation in graph.operators:
            code = parsed.operatorCodes[operation.opcodeIndex].builtinCode
            inputs = list(operation.inputs)
            if (
                code in {_CONV_2D, _DEPTHWISE_CONV_2D, _FULLY_CONNECTED}
                and len(inputs) == _WITH_BIAS
                and inputs[2] >= 0
            ):
                source, weight, bias = (graph.tensors[index] for index in inputs)
                rows = _floats(parsed, weight)
                _lift_rows(
                    np.moveaxis(rows, -1, 0) if code == _DEPTHWISE_CONV_2D else rows,
                    _floats(parsed, bias),
                    _step(ranges[source.name.decode()]),
                )


def _lift_rows(rows: Array, biases: Array, step: float) -> None:
    """Rows (channels, ...) and biases (channels,), with the input's step."""
    floors = np.abs(biases) * (_WEIGHT_LEVELS / (_BIAS_LEVELS * step))
    for row, floor in zip(rows, floors, strict=True):
        if np.abs(row).max() < floor:
            row[(0,) * row.ndim] = floor


def _floats(model: Any, tensor: Any) -> Array:
    """A view of a constant, as float32 of its own shape."""
    data: Array = model.buffers[tensor.buffer].data
    return data.view(np.float32).reshape(tensor.shape)


def _step(found: Mapping[str, Array]) -> float:
    """Of a tensor's int8 values, from its range; zero is in it."""
    low, high = min(float(np.min(found["min"])), 0.0), max(float(np.max(found["max"])), 0.0)
    return max(high - low, 1e-9) / _ACTIVATION_LEVELS
