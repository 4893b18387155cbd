"""The head in plain NumPy, for devices without a TFLite interpreter. The file format is in `edge_node.numpy_graph`.

A graph is checked whole when it is opened: every reference, every attribute, the shape of every weight and
of every value in between, and the memory that a run needs. What is opened runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edge_node.heads import HeadOutput
from edge_node.numpy_graph import Graph, GraphFile
from edge_node.numpy_ops import Kernel, Shape, Site, build
from schemas.bundle import Manifest
from schemas.errors import BundleError
from schemas.tensor import MAX_ELEMENTS, FloatArray

_REMEDY = "use the head and the manifest of one bundle, or build the bundle again"


class Step(NamedTuple):
    """One layer of the run: what it computes, from which values into which, and what nobody needs after it."""

    run: Kernel
    inputs: tuple[str, ...]
    output: str
    release: tuple[str, ...]


class NumpyHead:
    """A `Head` over NumPy; its outputs are the caller's own. Raises BundleError when the file cannot be used."""

    runtime = "numpy"

    def __init__(self, data: bytes, manifest: Manifest) -> None:
        file = GraphFile(data)
        self._spec = manifest.preprocess.output_spec(manifest.sample)
        self._graph = file.graph
        if self._graph.shape != self._spec.shape or self._spec.dtype != "float32":
            msg = f"the NumPy head takes float32{list(self._graph.shape)}, the manifest gives {self._spec}; {_REMEDY}"
            raise BundleError(msg)
        self._steps, shapes = compile_graph(file)
        self._has_exit = manifest.exit is not None
        _check_outputs(self._graph, shapes, manifest)
        self.run(np.zeros(self._spec.shape, np.float32))

    def run(self, inputs: FloatArray) -> HeadOutput:
        """Run one preprocessed sample. Raises TensorError when `inputs` is not of the head's spec."""
        cut, *rest = run_steps(self._graph, self._steps, self._spec.check(inputs, "the head's input"))
        return HeadOutput(cut, rest[0] if self._has_exit else None)


def run_steps(graph: Graph, steps: Sequence[Step], inputs: FloatArray) -> list[FloatArray]:
    """The graph's outputs for one input of its shape; they are the caller's own."""
    values = {graph.input: inputs}
    for step in steps:
        values[step.output] = step.run(*[values[name] for name in step.inputs])
        for name in step.release:
            del values[name]
    return [np.array(values[name], np.float32, order="C") for name in graph.outputs]


def compile_graph(file: GraphFile) -> tuple[tuple[Step, ...], dict[str, Shape]]:
    """The steps in order, and the shape of every value. Raises BundleError, naming the node that does not fit."""
    graph = file.graph
    shapes: dict[str, Shape] = {graph.input: graph.shape}
    kernels = []
    total = math.prod(graph.shape)
    for node in graph.nodes:
        site = Site(node, tuple(shapes[name] for name in node.inputs if name in shapes), file)
        unknown = [name for name in node.inputs if name not in shapes]
        if unknown or node.output in shapes:
            raise site.fail(f"its inputs {unknown} are not known yet" if unknown else "its output is written twice")
        layer = build(site)
        total += math.prod(layer.shape) + layer.scratch
        if total > MAX_ELEMENTS:
            raise site.fail(f"a run up to here takes {total} values, the cap is {MAX_ELEMENTS}")
        shapes[node.output] = layer.shape
        kernels.append(layer.run)
    missing = [name for name in graph.outputs if name not in shapes]
    if missing:
        msg = f"the NumPy head's outputs {missing} are written by no node; export the head again"
        raise BundleError(msg)
    return _schedule(graph, kernels), shapes


def _schedule(graph: Graph, kernels: list[Kernel]) -> tuple[Step, ...]:
    """The steps, each with the values that are used there for the last time."""
    kept = set(graph.outputs)
    steps = []
    for node, run in zip(reversed(graph.nodes), reversed(kernels), strict=True):
        release = tuple(sorted({*node.inputs, node.output} - kept))
        kept.update(release)
        steps.append(Step(run, node.inputs, node.output, release))
    return tuple(reversed(steps))


def _check_outputs(graph: Graph, shapes: dict[str, Shape], manifest: Manifest) -> None:
    """Raises BundleError unless the outputs are the manifest's cut and, where there is an exit, its logits."""
    expected = [manifest.cut.shape] + ([(len(manifest.labels),)] if manifest.exit else [])
    found = [shapes[name] for name in graph.outputs]
    if manifest.cut.dtype != "float32" or found[: len(expected)] != expected:
        shown = ", ".join(str(list(shape)) for shape in expected)
        given = ", ".join(str(list(shape)) for shape in found)
        msg = f"the NumPy head gives float32 {given}, the manifest names {manifest.cut.dtype} {shown}; {_REMEDY}"
        raise BundleError(msg)
