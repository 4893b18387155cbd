"""Laws of the NumPy head's ops, over random attributes and shapes: what is opened runs, and gives what it stated."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_node.numpy_graph import GraphFile
from edge_node.numpy_head import compile_graph
from edge_node.numpy_ops import OPS, Site, build
from schemas.errors import BundleError
from tests.edge_node.head_files import write_npz

SMALL = st.integers(-1, 4)
SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)
ATTRS: dict[str, st.SearchStrategy[Any]] = {
    "alpha": st.floats(-2, 2),
    "approximate": st.sampled_from(["none", "tanh", "erf"]),
    "axis": SMALL,
    "count_include_pad": st.booleans(),
    "dims": SMALL,
    "epsilon": st.sampled_from([-1.0, 1e-3, 1.0]),
    "groups": st.integers(1, 3),
    "high": st.floats(-2, 2) | st.none(),
    "low": st.floats(-2, 2) | st.none(),
    "slope": st.floats(-2, 2),
    "value": st.floats(-2, 2),
    **dict.fromkeys(("kernel", "stride", "dilation", "size"), st.lists(st.integers(1, 3), min_size=2, max_size=2)),
    **dict.fromkeys(("before", "after", "order", "shape"), st.lists(SMALL, min_size=1, max_size=4)),
    "padding": st.sampled_from([2, 4]).flatmap(lambda n: st.lists(st.integers(0, 2), min_size=n, max_size=n)),
}
NEEDS: dict[str, tuple[str, ...]] = {
    "adaptive_avg_pool": ("size",),
    "adaptive_max_pool": ("size",),
    "avg_pool": ("kernel", "stride", "padding", "count_include_pad"),
    "clip": ("low", "high"),
    "concat": ("axis",),
    "conv2d": ("stride", "padding", "dilation", "groups"),
    "elu": ("alpha",),
    "gelu": ("approximate",),
    "layer_norm": ("dims", "epsilon"),
    "leaky_relu": ("slope",),
    "max_pool": ("kernel", "stride", "padding", "dilation"),
    "pad": ("before", "after", "value"),
    "permute": ("order",),
    "reshape": ("shape",),
    "softmax": ("axis",),
}


@st.composite
def heads(draw: st.DrawFn, op: str) -> bytes:
    """A graph of one op, with attributes and weights of the right kind that may or may not fit."""
    shape = draw(st.tuples(st.sampled_from([2, 6]), st.integers(1, 9), st.integers(1, 9)) | SHAPES)
    attrs = {name: draw(ATTRS[name]) for name in NEEDS.get(op, ())}
    fitting = {
        "conv2d": (6, max(1, shape[0] // attrs.get("groups", 1)), 2, 3),
        "linear": (3, shape[-1]),
        "scale": shape[:1],
        "layer_norm": shape[-abs(attrs.get("dims", 1)) :],
    }.get(op, shape[-1:])
    bias = fitting if op == "layer_norm" else fitting[:1]
    inputs = ["x"] * min(3, draw(st.integers(*OPS[op].arity)))
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    if OPS[op].weighted:
        given_shapes = {"weight": draw(st.just(fitting) | SHAPES), "bias": draw(st.just(bias) | SHAPES)}
        roles = draw(st.sampled_from([("weight",), ("weight", "bias"), ()]))
        arrays = {role: np.ones(given_shapes[role], np.float32) for role in roles}
    node = {"op": op, "inputs": inputs, "output": "y", "attrs": attrs, "weights": {role: role for role in arrays}}
    return write_npz({"format": 1, "input": "x", "shape": shape, "outputs": ["y"], "nodes": [node]}, **arrays)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize("op", OPS)
@given(data=st.data())
def test_what_is_opened_runs_and_gives_the_shape_that_was_stated(op: str, data: st.DataObject) -> None:
    file = GraphFile(data.draw(heads(op)))
    try:
        (step,), shapes = compile_graph(file)
    except BundleError:
        return
    x = np.random.default_rng(0).standard_normal(file.graph.shape, np.float32)
    before = x.copy()
    y = step.run(*[x] * len(step.inputs))
    assert (y.shape, y.dtype) == (shapes["y"], np.float32)
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(("stride", "padding"), [((1, 1), (0, 1)), ((2, 3), (3, 2)), ((4000, 4000), (30, 30))])
@pytest.mark.parametrize("op", ["conv2d", "depthwise", "max_pool", "avg_pool"])
def test_a_run_takes_no_more_memory_than_was_counted(
    op: str, stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    shape, attrs = (4, 130, 90), {"stride": stride, "padding": padding}
    weight = np.ones((4, 1 if op == "depthwise" else 4, 7, 7), np.float32)
    node: dict[str, Any] = {"op": op, "inputs": ["x"], "output": "y", "attrs": {**attrs, "kernel": (61, 61)}}
    if "pool" not in op:
        node |= {"op": "conv2d", "attrs": {**attrs, "groups": 4 // weight.shape[1]}, "weights": {"weight": "w"}}
    graph = {"format": 1, "input": "x", "shape": shape, "outputs": ["y"], "nodes": [node]}
    file = GraphFile(write_npz(graph, w=weight))
    layer = build(Site(file.graph.nodes[0], (shape,), file))
    x = np.ones(shape, np.float32)
    tracemalloc.start()
    try:
        assert layer.run(x).shape == layer.shape
        assert tracemalloc.get_traced_memory()[1] < 4 * (layer.scratch + np.prod(layer.shape)) + (1 << 15)
    finally:
        tracemalloc.stop()
