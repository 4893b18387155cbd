"""The two halves of a graph as modules."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from cloud_worker.build.cut.graph import Graph
from cloud_worker.build.cut.pack import Value, pack, unpack
from cloud_worker.build.cut.sizes import is_ordered, layout, multiple, shape_of_sample, value_of


def head_of(graph: Graph, crossing: Sequence[fx.Node]) -> nn.Module:
    """float32 (N, ...) of the model's input -> the packed tensor (N, ...)."""
    half = _Half(graph, "x")
    made = half.copy(crossing, {graph.input: half.input})
    return half.finish(pack(half.graph, [(made[node], _value(node, graph.batch)) for node in crossing]))


def tail_of(graph: Graph, crossing: Sequence[fx.Node]) -> nn.Module:
    """The packed tensor (N, ...) -> the model's output (N, ...)."""
    half = _Half(graph, "cut")
    parts = unpack(half.graph, half.input, half.batch, [_value(node, graph.batch) for node in crossing])
    return half.finish(half.copy([graph.output], dict(zip(crossing, parts, strict=True)))[graph.output])


def _value(node: fx.Node, batch: Any) -> Value:
    seen = value_of(node)
    return Value(shape_of_sample(seen, batch), is_ordered(seen, batch), layout(seen, batch))


class _Half:
    """A graph of one input while it is being written."""

    def __init__(self, whole: Graph, name: str) -> None:
        self.graph = fx.Graph()
        self.input = self.graph.placeholder(name)
        self.batch = self.graph.call_function(torch.ops.aten.sym_size.int, (self.input, 0))
        self._whole = whole
        self._held: dict[str, object] = {}

    def copy(self, targets: Sequence[fx.Node], given: Mapping[fx.Node, fx.Node]) -> dict[fx.Node, fx.Node]:
        """Copy what the targets need beyond the given values; the answer has every copy."""
        made = dict(given)
        needed = self._whole.needed(targets, given)
        for node in self._whole.nodes:
            if node in needed:
                made[node] = self._copied(node, made)
        return made

    def _copied(self, node: fx.Node, made: Mapping[fx.Node, fx.Node]) -> fx.Node:
        factor = multiple(value_of(node), self._whole.batch)
        if factor is not None:
            return self.batch if factor == 1 else self.graph.call_function(operator.mul, (self.batch, factor))
        if node in self._whole.constants:
            target, held = self._whole.constants[node]
            self._held[target] = held
            return self.graph.get_attr(target)
        copied = self.graph.node_copy(node, made.__getitem__)
        copied.meta = {}  # of another trace
        return copied

    def finish(self, output: fx.Node) -> nn.Module:
        """The module, in eval mode, with the parameters that it needs under their own names."""
        self.graph.output(output)
        if not self.batch.users:
            self.graph.erase_node(self.batch)
        module = fx.GraphModule(self._held, self.graph, "Half")
        return module.eval()
