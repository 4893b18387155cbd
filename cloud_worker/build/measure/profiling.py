"""Measures a model: what each way to split it costs and loses, as a profile that `plan` reads.

::

    graph = Graph.trace(net, example)
    chosen = worth_measuring(cuts(graph))
    profile = measure(graph, chosen, Data(calibration, held_out), Settings(model="mine"), print)

Everything but the times is the same for the same model, samples and settings. The times of both halves are torch's on
this machine; `heads_to_time.on_device` puts a device's own in place of the heads'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import nn

from broker.stopwatch import device_name
from cloud_worker.build.cut.cuts import Cut, Graph, split
from cloud_worker.build.measure.choice import MOST_CUTS, worth_measuring
from cloud_worker.build.measure.data import Data, Images, Settings
from cloud_worker.build.measure.net import Reference, Stopwatch, run, whole_of
from cloud_worker.build.measure.points import Points, Tensors, fit_tables
from cloud_worker.build.measure.profile_file import CloudOnly, CutProfile, EdgeOnly, Place, SplitProfile
from cloud_worker.build.say import Say
from schemas.errors import ConfigError
from schemas.tensor import FloatArray, TensorSpec

__all__ = ["MOST_CUTS", "Data", "Images", "Settings", "fit_tables", "measure", "worth_measuring"]

_LONGEST_LABEL: Final = 80
_TIMED: Final = 16


def measure(
    graph: Graph, cuts: Sequence[Cut], data: Data, settings: Settings, say: Say = lambda _: None
) -> SplitProfile:
    """The profile of a model and of cuts of its graph in ascending order, none of which may be refused.

    `say` is told one line before each part. Takes some seconds a cut, most of it by the clock. Raises ConfigError for
    cuts of another graph, for outputs that are not logits, and for samples that do not fit the model.
    """
    bench = _Bench.of(graph, data, settings)
    full = _full_macs(cuts)
    say(f"the whole model, {full:,} multiply-accumulates, on {len(data.held_out)} samples that fit nothing")
    cloud_only = bench.cloud_only()
    edge_only = EdgeOnly(edge_ms=cloud_only.cloud_ms, quality=bench.reference.judge(bench.logits))
    found: list[CutProfile] = []
    for number, cut in enumerate(cuts, 1):
        say(f"cut {cut.index} of {cut.name} ({number} of {len(cuts)}): {cut.spec}, {cut.share:.0%} on the edge")
        found.append(bench.cut(graph, cut))
    place = Place(runtime=f"torch {torch.__version__}"[:_LONGEST_LABEL], device=device_name())
    return SplitProfile(
        model=_label(settings.model),
        full_macs=full,
        edge=place,
        cloud=place,
        cloud_only=cloud_only,
        edge_only=edge_only,
        cuts=tuple(found),
        preprocess_ms=bench.preprocess_ms(),
    )


class _Bench(NamedTuple):
    """What every part is measured with."""

    net: nn.Module
    data: Data
    logits: FloatArray
    reference: Reference
    points: Points
    clock: Stopwatch

    @classmethod
    def of(cls, graph: Graph, data: Data, settings: Settings) -> _Bench:
        net = whole_of(graph)
        try:
            logits = run(net, data.held_out)
        except (RuntimeError, AssertionError) as error:
            reason = " ".join(str(error).split())[:200]
            msg = f"the model cannot take samples {list(data.held_out.shape[1:])} ({reason}); trace it with one of them"
            raise ConfigError(msg) from None
        reference = Reference(logits, data.labels)
        return cls(net, data, logits, reference, Points(data, reference, settings), Stopwatch.of(settings))

    def cloud_only(self) -> CloudOnly:
        """The input shipped, the whole model in the cloud."""
        images = self.data.images
        if images is None:
            spec = TensorSpec(dtype="float32", shape=self.data.held_out.shape[1:])
            tensors = Tensors(self.data.calibration, self.data.held_out, lambda samples: run(self.net, samples))
        else:
            apply = images.preprocess.apply
            spec = TensorSpec(dtype="uint8", shape=images.held_out.shape[1:])
            tensors = Tensors(
                images.calibration,
                images.held_out,
                lambda samples: run(self.net, np.stack([apply(each) for each in samples])),
            )
        points = self.points.of_input(spec, tensors)
        return CloudOnly(cloud_ms=self.clock.net_ms(self.net, self.data.held_out[0]), points=points)

    def preprocess_ms(self) -> float:
        """Of one image; 0 for samples that are the model's input already."""
        images = self.data.images
        return (
            0.0 if images is None else self.clock.time(images.preprocess.apply, list(images.held_out[:_TIMED])).p50_ms
        )

    def cut(self, graph: Graph, cut: Cut) -> CutProfile:
        """One cut, its halves and its points."""
        head, tail = split(graph, cut)
        spec = cut.spec
        assert spec is not None  # noqa: S101 - split refuses such a cut
        held_out = run(head, self.data.held_out)
        tensors = Tensors(run(head, self.data.calibration), held_out, lambda arrived: run(tail, arrived))
        return CutProfile(
            index=cut.index,
            name=_label(cut.name),
            head_macs=cut.macs,
            macs_share=cut.share,
            edge_ms=self.clock.net_ms(head, self.data.held_out[0]),
            cloud_ms=self.clock.net_ms(tail, held_out[0]),
            points=self.points.of_cut(spec, tail, tensors),
        )


def _full_macs(cuts: Sequence[Cut]) -> int:
    """Of the whole model, as its cuts' shares say. Raises ConfigError without a cut that says it."""
    deepest = max(cuts, key=lambda cut: cut.macs, default=None)
    if deepest is None or not deepest.macs:
        msg = "there is no cut with a multiply-accumulate before it; give some of worth_measuring(cuts(graph))"
        raise ConfigError(msg)
    return round(deepest.macs / deepest.share)


def _label(text: str) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown if len(shown) <= _LONGEST_LABEL else f"{shown[: _LONGEST_LABEL - 3]}..."
