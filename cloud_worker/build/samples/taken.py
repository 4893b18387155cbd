"""A build's samples: read from where the options say, checked against the model, dealt to their parts."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from cloud_worker.build.build_options import BuildOptions
from cloud_worker.build.fit_options import Fitting
from cloud_worker.build.samples.dealt import SampleSet, class_names, deal, learning_part, read_lines, targets_of
from cloud_worker.build.samples.files import read_samples
from schemas.errors import BundleError, ConfigError
from schemas.preprocess import Preprocess

_CLASS_AXES = 2
_MOST_LEARNT = 1_000_000


def take_samples(options: BuildOptions, model: nn.Module) -> tuple[SampleSet, tuple[str, ...]]:
    """The samples in their parts, and the labels of the model's outputs.

    Raises SampleError for samples, ConfigError for options, and BundleError for a model, that cannot be used.
    """
    found = read_samples(options.samples, options.input_shape, options.most_samples)
    preprocess = options.preprocess or Preprocess(kind="image" if found[0].array.dtype == "uint8" else "identity")
    learning = options.fitting is not None and options.fitting.samples is None
    dealt = deal(found, preprocess, None, learning=learning)
    outputs = _outputs(model, dealt.calibration.inputs[:1])
    told = None if options.labels is None else read_lines(options.labels, "--labels")
    labels = class_names(found, told, outputs)
    targets = targets_of(found, labels, options.targets)
    if targets is not None:
        dealt = deal(found, preprocess, targets, learning=learning)
    return _with_own(dealt, options.input_shape, options.fitting, labels), labels


def _with_own(
    dealt: SampleSet, shape: tuple[int, ...] | None, fitting: Fitting | None, labels: tuple[str, ...]
) -> SampleSet:
    """With what is learnt from, where that has a folder of its own."""
    if fitting is None or fitting.samples is None:
        return dealt
    found = read_samples(fitting.samples, shape, _MOST_LEARNT)
    targets = targets_of(found, labels, fitting.targets, "--fit-targets")
    return replace(dealt, learning=learning_part(found, dealt, targets))


def _outputs(model: nn.Module, inputs: Tensor) -> int:
    """How many classes the model tells apart. Raises BundleError where it does no such thing."""
    try:
        with torch.no_grad():
            found = model(inputs)
    except Exception as error:  # whatever the model's code raises
        reason = " ".join(str(error).split())[:200]
        fact = f"the model does not take samples of float32{list(inputs.shape[1:])} ({reason})"
        msg = f"{fact}; say --input-shape, or make it take these"
        raise ConfigError(msg) from error
    first = found[0] if isinstance(found, (tuple, list)) and found else found
    if not isinstance(first, Tensor) or first.dim() != _CLASS_AXES or first.dtype != torch.float32:
        told = type(first).__name__
        if isinstance(first, Tensor):
            told = f"{str(first.dtype).removeprefix('torch.')}{list(first.shape)}"
        msg = f"the model returns {told} for one sample; return logits (batch, classes) of float32"
        raise BundleError(msg)
    return first.shape[1]
