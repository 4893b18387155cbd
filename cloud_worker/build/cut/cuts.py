"""Cuts any model that torch.export takes, on its real graph: skip connections, several tensors across the cut.

::

    graph = Graph.trace(net.eval(), torch.zeros(1, 3, 224, 224))
    good = [cut for cut in cuts(graph) if cut.refused is None]
    head, tail = split(graph, good[7])

`tail(head(x))` has the same bits as `net(x)`, for any number of samples, where `net` runs without the fused attention
of torch.nn (`torch.backends.mha.set_fastpath_enabled(False)`), which rounds in another way. Both halves are modules in
eval mode that take one tensor, give one, hold only the parameters that they need, and can be exported again. Parameters
and constants never cross: what is computed from them alone is computed by every half that needs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import torch
from torch import Tensor, fx, nn

from cloud_worker.build.cut.graph import Graph
from cloud_worker.build.cut.halves import head_of, tail_of
from cloud_worker.build.cut.macs import macs_of
from cloud_worker.build.cut.pack import packing, refuse_shape, spec_of
from cloud_worker.build.cut.sizes import has_batch, is_known, multiple, shape_of_sample, value_of
from schemas.errors import ConfigError
from schemas.tensor import TensorSpec

__all__ = ["MOST_TENSORS", "Crossing", "Cut", "Graph", "cuts", "split"]

MOST_TENSORS: Final = 8
"""A cut that more tensors cross is refused, unless another limit is given."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A value that the tail needs from the head."""

    name: str
    dtype: str
    """As torch calls it; "int" for a number that is no tensor."""
    shape: tuple[int, ...]
    """Without the batch dimension; -1 where the size depends on the data."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A place between two steps of a graph."""

    index: int
    """Steps in the head, at least 1 and fewer than there are."""
    name: str
    """The outermost module that the head's last step finishes, like `features.3`; inside one `module/call`."""
    modules: tuple[str, ...]
    """Every module whose call the head's last step ends, the outermost first: other names for the same place."""
    tensors: tuple[Crossing, ...]
    elements: int
    """Values that cross for one sample."""
    macs: int
    """Multiply-accumulates of the head for one sample, as `cut_macs` counts them."""
    share: float
    """`macs` as a share of the whole model's, 0 to 1."""
    spec: TensorSpec | None
    """The one tensor between the halves, for one sample; None when the cut is refused.

    Several tensors stand one after another along the channels when their other dimensions are the same, else they are
    flattened to one dimension.
    """
    refused: str | None
    """Why the model cannot be cut here."""


def cuts(graph: Graph, most_tensors: int = MOST_TENSORS) -> list[Cut]:
    """Every place between two steps, from the input to the output, also those where a cut is refused.

    No two have the same crossing tensors: calls that only hand a value on are no steps.
    """
    macs = list(accumulate(macs_of(step, graph.batch) for step in graph.steps))
    return [_cut(graph, index, macs, most_tensors) for index in range(1, len(graph.steps))]


def split(graph: Graph, cut: Cut) -> tuple[nn.Module, nn.Module]:
    """Head: float32 (N, ...) of the model's input -> float32 (N, *cut.spec.shape); tail: that -> the model's output.

    Raises ConfigError for a cut that is refused or that is of another graph.
    """
    if cut.refused is not None:
        msg = f"the model cannot be cut after {cut.name} (cut {cut.index}): {cut.refused}"
        raise ConfigError(msg)
    crossing = graph.crossing(cut.index) if 0 < cut.index < len(graph.steps) else []
    if tuple(_described(graph, node) for node in crossing) != cut.tensors:
        msg = f"cut {cut.index} after {cut.name} is not of this graph; take one of cuts(graph)"
        raise ConfigError(msg)
    return head_of(graph, crossing), tail_of(graph, crossing)


def _cut(graph: Graph, index: int, macs: Sequence[int], most_tensors: int) -> Cut:
    crossing = graph.crossing(index)
    tensors = tuple(_described(graph, node) for node in crossing)
    refused = _refusal(graph, crossing, most_tensors)
    return Cut(
        index=index,
        name=graph.labels[index - 1],
        modules=graph.finished[index - 1],
        tensors=tensors,
        elements=sum(max(0, math.prod(each.shape)) for each in tensors),
        macs=macs[index - 1],
        share=macs[index - 1] / max(1, macs[-1]),
        spec=None if refused else spec_of(packing([each.shape for each in tensors])),
        refused=refused,
    )


def _described(graph: Graph, node: fx.Node) -> Crossing:
    value = value_of(node)
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return Crossing(graph.label(node), dtype, shape_of_sample(value, graph.batch))
    return Crossing(graph.label(node), type(value).__name__.removeprefix("Sym").lower(), ())


def _refusal(graph: Graph, crossing: Sequence[fx.Node], most_tensors: int) -> str | None:
    """The first reason against a cut, or None."""
    for node in crossing:
        reason = _against(value_of(node), graph.batch)
        if graph.place[node] == 0:
            return "the input itself is needed after it, by a skip connection; cut after its last use"
        if reason is not None:
            return f"{graph.label(node)} crosses, {reason}"
    if len(crossing) > most_tensors:
        return f"{len(crossing)} tensors cross, at most {most_tensors} are allowed; cut where fewer do"
    return refuse_shape(packing([shape_of_sample(value_of(node), graph.batch) for node in crossing]))


def _against(value: Any, batch: Any) -> str | None:
    """Why a value cannot cross, in words that go on after its name."""
    if not isinstance(value, Tensor):
        return "which is no tensor but a number or a list computed from the data or its shape"
    if value.dtype != torch.float32:
        dtype = str(value.dtype).removeprefix("torch.")
        return f"which is {dtype}; only float32 can: cut before it is computed, or after its last use"
    return None if has_batch(value, batch) else _against_shape(value, batch)


def _against_shape(value: Tensor, batch: Any) -> str:
    if not all(is_known(size, batch) for size in value.shape):
        return "whose size depends on the data"
    places = {place: multiple(size, batch) for place, size in enumerate(value.shape) if isinstance(size, torch.SymInt)}
    if not places:
        return "which has no batch dimension: it is one for all samples"
    if list(places.values()) == [1]:
        return f"whose batch dimension is at place {next(iter(places))}, not first"
    return "which has the batch and other dimensions folded into one"
