"""How long head, tail and codec take for one sample on one thread, in processor time of the process.

Nothing else may run in the process meanwhile; what other processes do matters less than it would on the wall's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from broker.stopwatch import AT_LEAST_S, timing
from cloud_worker.build.measure.net import torch_threads
from schemas.codecs import Codec
from schemas.tensor import Array

MOST_TIME = 0.1
"""Of its half, for encoding or decoding at any operating point."""
_AT_LEAST_S = AT_LEAST_S


class PartTimes(NamedTuple):
    """Medians for one sample."""

    runtime: str
    """What ran the head for `head_ms`: `ai-edge-litert`, or `torch` where there is no TFLite head."""
    head_ms: float
    tail_ms: float
    """In torch."""
    head_torch_ms: float

    def row(self) -> dict[str, Any]:
        """Columns of a row; the share of time is that of torch for both halves."""
        share = self.head_torch_ms / (self.head_torch_ms + self.tail_ms)
        return {"runtime": self.runtime, "head_ms": self.head_ms, "tail_ms": self.tail_ms, "time_share": share}


def one_thread() -> AbstractContextManager[None]:
    """Torch on one thread while the context lasts, in each of the threads that begin within it."""
    return torch_threads(1)


def median_ms(call: Callable[..., object], arguments: Sequence[Any] = ()) -> float:
    """Median for one call, as `broker.stopwatch` takes it; `arguments` are taken in turn."""
    return timing(call, arguments, at_least_s=_AT_LEAST_S).p50_ms


def codec_ms(codec: Codec, tensors: Array) -> dict[str, float]:
    """Medians of encoding and of decoding over tensors (N, ...), as columns."""
    payloads = [codec.encode(tensor) for tensor in tensors]
    return {"encode_ms": median_ms(codec.encode, list(tensors)), "decode_ms": median_ms(codec.decode, payloads)}


def part_times(head: nn.Module, tail: nn.Module, image: Tensor, model: bytes | None) -> PartTimes:
    """Of both halves for one preprocessed image (1, C, H, W), within `one_thread`.

    `model` is the head as TFLite where there is one.
    """
    with torch.inference_mode():
        cut = head(image)
        in_torch, tail_ms = median_ms(lambda: head(image)), median_ms(lambda: tail(cut))
    invoke = None if model is None else _interpreter(model, image.numpy())
    if invoke is None:
        return PartTimes("torch", in_torch, tail_ms, in_torch)
    return PartTimes("ai-edge-litert", median_ms(invoke), tail_ms, in_torch)


def _interpreter(model: bytes, image: Array) -> Callable[[], object] | None:
    """Runs the model on one thread; None where ai-edge-litert is not installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - not everywhere
    except ImportError:
        return None
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    invoke: Callable[[], object] = interpreter.invoke
    return invoke
