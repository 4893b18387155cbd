"""A torch module as `head.tflite`, through litert-torch, which only those who build bundles install."""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from schemas.errors import BundleError, ConfigError


def has_converter() -> bool:
    """Whether litert-torch is installed, without loading it."""
    return importlib.util.find_spec("litert_torch") is not None


def export_tflite(module: nn.Module, example_input: torch.Tensor) -> bytes:
    """The bytes of a float32 TFLite model, its one signature's outputs in the module's own order.

    Takes a module in eval mode and an example with batch dimension 1; layout stays channels first. Raises
    ConfigError when litert-torch is not installed, BundleError when it cannot convert the module.
    """
    try:
        import litert_torch  # noqa: PLC0415 - heavy, and only a build needs it
    except ImportError as error:
        msg = f"litert-torch cannot be imported ({error}); pip install 'splitbus[build]', or build a NumPy head alone"
        raise ConfigError(msg) from None
    if module.training:
        msg = "the module is in training mode; export it in eval mode"
        raise BundleError(msg)
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")  # of torch about torch
            path = Path(folder) / "head.tflite"
            litert_torch.convert(module, (example_input,)).export(str(path))
            return path.read_bytes()
    except Exception as error:  # the converter raises whatever torch, MLIR and the module's code raise
        reason = " ".join(str(error).split())[:300]
        msg = f"litert-torch cannot convert the module ({type(error).__name__}: {reason}); see what it supports"
        raise BundleError(msg) from error
