"""What a trained pair does on a part: logits of every answer, bytes at every rate, and its calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from models.fashion_mnist import calibrate, code_length, data
from models.fashion_mnist.nets import IMAGE_SHAPE, Full, count_macs, count_params
from models.fashion_mnist.pair import Pair
from schemas.probability import softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import nn

    Floats = NDArray[np.float32]

SLACK = 0.0
"""Accuracy that the threshold may give away against the best one on the calibration part."""
MOST_SHIPPED = 0.30
CHUNK = 500
"""Samples that a network sees at once."""


class Outputs(NamedTuple):
    """Logits float32 of every answer that can be given for a sample: (N, 10), and (rates, N, 10) of the tail."""

    full: Floats
    exit: Floats
    tail: Floats


@torch.inference_mode()
def cuts(pair: Pair, part: data.Labelled) -> tuple[Floats, Floats]:
    """Unquantised cuts (N, channels, 7, 7) and the exit's logits (N, 10), in float32."""
    pair.eval()
    found = [pair.head(batch.to(_device(pair))) for batch in data.batches(part.images, CHUNK)]
    cut, logits = (torch.cat(column).cpu().numpy() for column in zip(*found, strict=True))
    return cut, logits


@torch.inference_mode()
def outputs(full: nn.Module, pair: Pair, part: data.Labelled) -> Outputs:
    """Run the three networks over a part, in float32."""
    full.eval()
    cut, exit_logits = cuts(pair, part)
    parts = [chunk.to(_device(pair)) for chunk in torch.split(torch.from_numpy(cut), CHUNK)]
    tails = [torch.cat([pair.finish(one, rate) for one in parts]) for rate in range(pair.bottleneck.rates)]
    whole = torch.cat([full(batch.to(_device(full))) for batch in data.batches(part.images, CHUNK)])
    return Outputs(whole.cpu().numpy(), exit_logits, torch.stack(tails).cpu().numpy())


@torch.inference_mode()
def score_full(model: nn.Module, part: data.Labelled) -> str:
    """Accuracy of the unsplit model."""
    model.eval()
    logits = torch.cat([model(batch.to(_device(model))) for batch in data.batches(part.images, CHUNK)])
    return f"validation {calibrate.accuracy(logits.cpu().numpy(), part.labels):.4f}"


@torch.inference_mode()
def score_pair(pair: nn.Module, part: data.Labelled) -> str:
    """Of a Pair: accuracy of exit and tail at the richest rate, and the bytes that the density expects at each."""
    assert isinstance(pair, Pair)
    cut, exit_logits = cuts(pair, part)
    on_device = torch.from_numpy(cut).to(_device(pair))
    tail = torch.cat([pair.finish(one, 0) for one in torch.split(on_device, CHUNK)]).cpu().numpy()
    sizes = [expected_bytes(pair, on_device[:CHUNK], rate) for rate in range(pair.bottleneck.rates)]
    right = [calibrate.accuracy(logits, part.labels) for logits in (exit_logits, tail)]
    return f"exit {right[0]:.4f} tail {right[1]:.4f} bytes {' '.join(f'{size:.1f}' for size in sizes)}"


def expected_bytes(pair: Pair, cut: torch.Tensor, rate: int) -> float:
    """Mean payload by the learned density, OVERHEAD included."""
    width = (1 / pair.rates.gains[rate])[None, :, None, None]
    rounded = pair.rates.dequantise(pair.rates.quantise(cut, rate), rate)
    bits = pair.rates.density.bits(rounded, width)
    return float(bits.sum() / len(cut)) / 8 + code_length.OVERHEAD


def trim(pair: Pair, part: data.Labelled, targets: Sequence[float]) -> None:
    """Scale each rate's gains so that its counted tables give the target in bytes on the calibration part."""
    cut, _ = cuts(pair, part)
    for rate, target in enumerate(targets):
        gain = pair.rates.gains[rate].detach().cpu().numpy()

        def size(factor: float, gain: Floats = gain) -> float:
            q = code_length.levels(cut, factor * gain)
            return code_length.mean_bytes(q, q)

        with torch.no_grad():
            pair.rates.log_gains[rate] += float(np.log(code_length.factor_for(target, size)))


def sizes(pair: Pair, split: data.Split) -> dict[str, list[float]]:
    """Mean bytes at every rate on both held-out parts, with tables counted on the calibration part."""
    calibration, validation = (cuts(pair, part)[0] for part in (split.calibration, split.validation))
    gains = pair.rates.gains.detach().cpu().numpy()
    rows: dict[str, list[float]] = {"calibration": [], "validation": []}
    for gain in gains:
        fitted = code_length.levels(calibration, gain)
        rows["calibration"].append(round(code_length.mean_bytes(fitted, fitted), 2))
        rows["validation"].append(round(code_length.mean_bytes(fitted, code_length.levels(validation, gain)), 2))
    return rows


def describe(full: Full, pair: Pair) -> dict[str, Any]:
    """Sizes: multiply-accumulates and parameters of each part."""
    parts = {"full": (full, IMAGE_SHAPE), "head": (pair.head, IMAGE_SHAPE), "tail": (pair.tail, pair.bottleneck.shape)}
    return {
        "bottleneck": pair.bottleneck._asdict(),
        "macs": {name: count_macs(model, shape) for name, (model, shape) in parts.items()},
        "params": {name: count_params(model) for name, (model, _) in parts.items()},
    }


def calibrated(full: Full, pair: Pair, split: data.Split) -> dict[str, Any]:
    """Temperatures and threshold from the calibration part; accuracies and bytes of both held-out parts with them.

    One temperature serves the tail at every rate; the threshold is that of the richest rate.
    """
    found, labels = outputs(full, pair, split.calibration), split.calibration.labels
    heat: dict[str, Any] = {key: calibrate.temperature(getattr(found, key), labels) for key in ("full", "exit")}
    heat["tail"] = calibrate.temperature(np.concatenate(found.tail), np.tile(labels, len(found.tail)))
    heat["tail_by_rate"] = [calibrate.temperature(logits, labels) for logits in found.tail]
    probabilities = softmax(found.exit, heat["exit"]), softmax(found.tail[0], heat["tail"])
    threshold = calibrate.choose_threshold(*probabilities, labels, SLACK, MOST_SHIPPED).threshold
    report: dict[str, Any] = {"temperature": heat, "threshold": threshold}
    bytes_of = sizes(pair, split)
    for name, part in (("calibration", split.calibration), ("validation", split.validation)):
        row = _accuracies(outputs(full, pair, part), part, heat, threshold)
        report[name] = {**row, "bytes": bytes_of[name]}
    return report


def _accuracies(found: Outputs, part: data.Labelled, heat: dict[str, Any], threshold: float) -> dict[str, Any]:
    exit_p = softmax(found.exit, heat["exit"])
    both = [
        calibrate.hybrid(exit_p, softmax(tail, heat["tail"]), part.labels, threshold).accuracy for tail in found.tail
    ]
    return {
        "full": calibrate.accuracy(found.full, part.labels),
        "exit": calibrate.accuracy(found.exit, part.labels),
        "tail": [calibrate.accuracy(tail, part.labels) for tail in found.tail],
        "hybrid": both,
        "shipped": float((exit_p.max(axis=1) < threshold).mean()),
    }


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
