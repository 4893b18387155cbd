"""Torch while it is measured: on how many threads, over how many samples at a time, by which clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from broker.stopwatch import Timing, timing
from cloud_worker.build.cut.cuts import Graph
from cloud_worker.build.cut.halves import head_of
from cloud_worker.build.measure.data import Settings
from cloud_worker.build.measure.profile_file import Quality, Spread
from schemas.errors import ConfigError
from schemas.tensor import Array, FloatArray

_BATCH: Final = 32
_LOGITS_AXES: Final = 2

Floats = NDArray[np.float64]


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch on so many threads while the context lasts, in each of the threads that begin within it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def whole_of(graph: Graph) -> nn.Module:
    """The model uncut: float32 (N, ...) of its input -> its output (N, ...)."""
    return head_of(graph, [graph.output])


@torch.inference_mode()
def run(net: nn.Module, samples: FloatArray) -> FloatArray:
    """What a module makes of float32 (N, ...), some at a time."""
    parts = [samples[start : start + _BATCH] for start in range(0, len(samples), _BATCH)]
    made: list[FloatArray] = [net(torch.from_numpy(np.array(part))).contiguous().numpy() for part in parts]
    return np.concatenate(made)


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """The clock that a profile's times are read from."""

    threads: int
    at_least_s: float

    @classmethod
    def of(cls, settings: Settings) -> Stopwatch:
        """As the settings say."""
        return cls(settings.threads, settings.clock_s)

    def time(self, call: Callable[..., object], arguments: Sequence[Any] = ()) -> Timing:
        """For one call; processor time on one thread, the wall's clock on more."""
        clock = time.process_time if self.threads == 1 else time.perf_counter
        with torch_threads(self.threads):
            return timing(call, arguments, at_least_s=self.at_least_s, clock=clock)

    def net_ms(self, net: nn.Module, sample: FloatArray) -> Spread:
        """Of a module for one sample (...)."""
        one = torch.from_numpy(np.array(sample[None]))
        with torch.inference_mode():
            took = self.time(lambda: net(one))
        return Spread(p50=took.p50_ms, p95=took.p95_ms)


class Reference:
    """What the uncut model answers to the held-out samples: the measure of everything else.

    Raises ConfigError for outputs that are not logits float32 (M, classes), since KL divergence needs them.
    """

    def __init__(self, logits: FloatArray, labels: NDArray[np.int64] | None) -> None:
        if logits.ndim != _LOGITS_AXES or logits.shape[1] < _LOGITS_AXES or not np.isfinite(logits).all():
            msg = (
                f"the model gives {list(logits.shape)}; profiling takes finite logits (N, classes) of 2 classes or more"
            )
            raise ConfigError(msg)
        self._logs = _log_softmax(logits)
        self._labels = labels

    def judge(self, logits: FloatArray) -> Quality:
        """Mean KL divergence of answers from the uncut model's, nats, and accuracy where there are labels."""
        logs = _log_softmax(logits)
        kl = float((np.exp(self._logs) * (self._logs - logs)).sum(axis=1).mean())
        if not np.isfinite(kl):
            msg = "the tail's answers are not finite; look for the sample that makes them so"
            raise ConfigError(msg)
        right = None if self._labels is None else float((logs.argmax(axis=1) == self._labels).mean())
        return Quality(kl_nats=max(0.0, kl), accuracy=right)


def _log_softmax(logits: Array) -> Floats:
    values = logits.astype(np.float64)
    shifted = values - values.max(axis=1, keepdims=True)
    logs: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs
