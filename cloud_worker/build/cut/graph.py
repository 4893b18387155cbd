"""The real graph of a model: which call needs which value, and in what order."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
from torch import Tensor, fx, nn

from cloud_worker.build.cut.sizes import has_batch, multiple, sizes_of, value_of
from cloud_worker.build.cut.trace import output_name, trace
from schemas.errors import BundleError

_SAME: Final = frozenset(
    f"aten.{name}"
    for name in (
        "_to_copy.default",
        "alias.default",
        "clone.default",
        "contiguous.default",
        "detach.default",
        "dropout.default",
        "expand.default",
        "slice.Tensor",
        "view.default",
    )
)
"""Calls that give the values of their input, if shape and dtype are the same too."""
_NO_MODULE: Final = "_empty_nn_module_stack"


@dataclass(frozen=True, eq=False)
class Graph:
    """A traced model: its steps in an order in which they can run.

    A step is a call whose result depends on the data of the input. Parameters, constants, what is computed from them
    and from the batch size alone, and calls that only hand their input on, are no steps: every half that needs their
    values computes them itself.
    """

    nodes: tuple[fx.Node, ...]
    """Everything that the output needs, in order."""
    steps: tuple[fx.Node, ...]
    labels: tuple[str, ...]
    """For each step the outermost module that is finished after it, or `module/call` inside one; all different."""
    finished: tuple[tuple[str, ...], ...]
    """For each step all modules whose call it ends, the outermost first."""
    input: fx.Node
    output: fx.Node
    place: Mapping[fx.Node, int]
    """The step, from 1, that a value that depends on the data comes from; 0 for the input."""
    last_use: Mapping[fx.Node, int]
    """The last step that reads a value; one more than there are steps when it is the output."""
    constants: Mapping[fx.Node, tuple[str, object]]
    """Parameters, buffers and constants: qualified name and the module's own tensor, not a copy."""
    batch: Any
    """The symbol of the batch size."""

    @classmethod
    def trace(cls, module: nn.Module, example: Tensor) -> Self:
        """The graph of a module in eval mode that takes one float32 tensor and returns one.

        `example` is float32 (1, ...); only its shape counts. A module that returns a tuple or list counts as one that
        returns its first element. Weights are shared with the module. Attention of torch.nn is traced layer by layer,
        so compare with its fast path switched off. Raises ConfigError for the example and BundleError for the module,
        as `cut_trace.trace` says, and BundleError when the output does not depend on the input or has no batch
        dimension.
        """
        program = trace(module, example)
        named = {node.name: node for node in program.graph.nodes}
        source = named[program.graph_signature.user_inputs[0]]
        batch = value_of(source).shape[0].node.expr
        output = named[output_name(program)]
        nodes = _live(program.graph.nodes, output, batch)
        place, steps = _places(nodes, source, batch)
        if not place.get(output) or not has_batch(value_of(output), batch):
            shown = value_of(output)
            msg = f"the module returns {list(shown.shape)}, which is not computed for each sample; return (batch, ...)"
            raise BundleError(msg)
        uses = _last_uses(nodes, place, output, len(steps))
        constants = _constants(program, nodes, source)
        finished = _finished(steps)
        return cls(nodes, steps, _labels(steps, finished), finished, source, output, place, uses, constants, batch)

    def crossing(self, index: int) -> list[fx.Node]:
        """Values that steps after the first `index` read and that come from these, or are the input."""
        return [node for node, last in self.last_use.items() if self.place[node] <= index < last]

    def label(self, value: fx.Node) -> str:
        """Name of a value: that of its step, with the item where the step gives several."""
        if self.place[value] == 0:
            return "input"
        label = self.labels[self.place[value] - 1]
        if value.target is operator.getitem and len(_items(value, self.last_use)) > 1:
            return f"{label}[{value.args[1]}]"
        return label

    def needed(self, targets: Iterable[fx.Node], given: Iterable[fx.Node]) -> set[fx.Node]:
        """Everything that the targets are computed from, where some values are given."""
        return _closure(targets, set(given), self.batch)


def source_of(node: fx.Node) -> fx.Node:
    """The value that a chain of calls hands on unchanged."""
    while _hands_on(node):
        node = node.all_input_nodes[0]
    return node


def _hands_on(node: fx.Node) -> bool:
    if str(node.target) not in _SAME or not isinstance(node.args[0], fx.Node):
        return False
    given, made = value_of(node.args[0]), value_of(node)
    return bool(given.dtype == made.dtype and given.device == made.device and sizes_of(given) == sizes_of(made))


def _needs(node: fx.Node, batch: Any) -> list[fx.Node]:
    """Inputs of a node; a multiple of the batch size needs none."""
    return [] if multiple(value_of(node), batch) is not None else node.all_input_nodes


def _closure(targets: Iterable[fx.Node], given: set[fx.Node], batch: Any) -> set[fx.Node]:
    found: set[fx.Node] = set()
    ahead = list(targets)
    while ahead:
        node = ahead.pop()
        if node not in found and node not in given:
            found.add(node)
            ahead += _needs(node, batch)
    return found


def _live(nodes: Iterable[fx.Node], output: fx.Node, batch: Any) -> tuple[fx.Node, ...]:
    found = _closure([output], set(), batch)
    return tuple(node for node in nodes if node in found)


def _places(nodes: Iterable[fx.Node], source: fx.Node, batch: Any) -> tuple[dict[fx.Node, int], tuple[fx.Node, ...]]:
    place = {source: 0}
    steps: list[fx.Node] = []
    for node in nodes:
        read = [each for each in _needs(node, batch) if each in place]
        if not read:
            continue
        if node.target is operator.getitem or _hands_on(node):
            place[node] = place[read[0]]
        else:
            steps.append(node)
            place[node] = len(steps)
    return place, tuple(steps)


def _last_uses(
    nodes: Iterable[fx.Node], place: Mapping[fx.Node, int], output: fx.Node, steps: int
) -> dict[fx.Node, int]:
    """In the order of the nodes; a tuple counts as used by those who read its items."""
    order = list(nodes)
    uses: dict[fx.Node, int] = {}
    for node in order:
        if node in place and node.target is not operator.getitem and not _hands_on(node):
            for each in node.all_input_nodes:
                if each in place:
                    uses[source_of(each)] = place[node]
    uses[source_of(output)] = steps + 1
    return {node: uses[node] for node in order if node in uses}


def _items(value: fx.Node, uses: Mapping[fx.Node, int]) -> list[fx.Node]:
    return [each for each in value.all_input_nodes[0].users if each in uses]


def _constants(
    program: torch.export.ExportedProgram, nodes: Iterable[fx.Node], source: fx.Node
) -> dict[fx.Node, tuple[str, object]]:
    targets = {spec.arg.name: str(spec.target) for spec in program.graph_signature.input_specs}
    found: dict[fx.Node, tuple[str, object]] = {}
    for node in nodes:
        if node.op == "get_attr":
            found[node] = (str(node.target), operator.attrgetter(str(node.target))(program.graph_module))
        elif node.op == "placeholder" and node is not source:
            target = targets[node.name]
            held = program.state_dict if target in program.state_dict else program.constants
            found[node] = (target, held[target])
    return found


def _finished(steps: tuple[fx.Node, ...]) -> tuple[tuple[str, ...], ...]:
    last = {call: node for node in steps for call, _ in _calls(node)}
    return tuple(tuple(path for call, path in _calls(node) if last[call] is node and path) for node in steps)


def _labels(steps: tuple[fx.Node, ...], finished: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    labels: dict[str, None] = {}
    for node, done in zip(steps, finished, strict=True):
        inside = "/".join([path for _, path in _calls(node)[-1:] if path] + [_call(node)])
        labels[_unused(done[0] if done else inside, labels)] = None
    return tuple(labels)


def _call(node: fx.Node) -> str:
    """What is called: `add` for aten.add.Tensor."""
    return str(getattr(node.target, "__name__", node.target)).partition(".")[0]


def _calls(node: fx.Node) -> list[tuple[str, str]]:
    """The module calls that a node stands in, from the outermost on: key of the call and path of the module."""
    stack = node.meta.get("nn_module_stack") or {}
    return [(call, str(path).partition("@")[0]) for call, (path, _) in stack.items() if not call.startswith(_NO_MODULE)]


def _unused(label: str, labels: Mapping[str, None]) -> str:
    number = 2
    unique = label
    while unique in labels:
        unique = f"{label}#{number}"
        number += 1
    return unique
