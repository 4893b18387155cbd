"""`head.npz`: what is refused when it is opened, and by what name. Needs no torch."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.numpy_graph import MAX_BYTES, GraphFile
from edge_node.numpy_head import NumpyHead, compile_graph
from edge_node.numpy_ops import OPS
from schemas.errors import BundleError
from tests.edge_node.head_files import DATA, TWINS, manifest, write_npz

KERNEL = np.ones((4, 2, 3, 3), np.float32)
BIAS = np.ones(4, np.float32)


def graph(
    *nodes: dict[str, Any], shape: tuple[int, ...] = (2, 6, 5), outputs: tuple[str, ...] = ("y",)
) -> dict[str, Any]:
    return {"format": 1, "input": "x", "shape": shape, "outputs": outputs, "nodes": nodes}


def node(op: str, *inputs: str, output: str = "y", **others: Any) -> dict[str, Any]:
    return {"op": op, "inputs": inputs or ("x",), "output": output, **others}


def refusal(data: bytes) -> str:
    with pytest.raises(BundleError, match="again") as caught:
        compile_graph(GraphFile(data))
    return str(caught.value)


CONV = {"weight": "w", "bias": "b"}
BAD_NODES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown op": (node("mish"), "no op is called 'mish'"),
    "unknown input": (node("relu", "z"), r"inputs \['z'\] are not known yet"),
    "its own output": (node("relu", "y"), "not known yet"),
    "written twice": (node("relu", output="x"), "written twice"),
    "two inputs": (node("relu", "x", "x"), "it has 2 inputs"),
    "one input": (node("add", "x"), "it has 1 inputs and the weights"),
    "one input of a product": (node("matmul", "x"), "it has 1 inputs"),
    "product of shapes that do not fit": (node("matmul", "x", "x"), r"expected \(..., n, k\) and \(..., k, m\)"),
    "one input of a difference": (node("sub", "x"), "it has 1 inputs"),
    "two inputs and a weight": (node("mul", "x", "x", weights={"weight": "b"}), "it has 2 inputs and the weights"),
    "a bias alone": (node("mul", weights={"bias": "b"}), "the weights ..bias"),
    "constant that does not fit": (node("mul", weights={"weight": "w"}), "do not fit each other"),
    "scale of other channels": (node("scale", weights=CONV), r"expected \(2\)"),
    "norm of too much": (node("layer_norm", attrs={"dims": 4, "epsilon": 0.1}), "over 4 dimensions"),
    "norm of others": (node("layer_norm", attrs={"dims": 1, "epsilon": 0.1}, weights=CONV), r"expected \(5\)"),
    "norm with a role": (node("layer_norm", attrs={"dims": 1, "epsilon": 0}, weights={"scale": "b"}), "scale"),
    "norm with a negative epsilon": (node("layer_norm", attrs={"dims": 1, "epsilon": -1}), "epsilon"),
    "norm over nothing": (node("layer_norm", attrs={"dims": 0, "epsilon": 0}), "dims"),
    "slope left out": (node("leaky_relu"), "slope"),
    "endless slope": (node("leaky_relu", attrs={"slope": float("inf")}), "slope"),
    "text for alpha": (node("elu", attrs={"alpha": "one"}), "alpha"),
    "another gelu": (node("gelu", attrs={"approximate": "sigmoid"}), "approximate"),
    "endless clip": (node("clip", attrs={"low": float("-inf")}), "low"),
    "softmax of an axis": (node("softmax", attrs={"axis": 3}), "no axis 3"),
    "negative axis": (node("softmax", attrs={"axis": -1}), "axis"),
    "reshape to others": (node("reshape", attrs={"shape": [2, 31]}), "cannot become"),
    "reshape to the rest": (node("reshape", attrs={"shape": [-1, 2]}), "shape"),
    "reshape to nothing": (node("reshape", attrs={"shape": []}), "shape"),
    "reshape to many": (node("reshape", attrs={"shape": [60] + [1] * 8}), "shape"),
    "order of two": (node("permute", attrs={"order": [1, 0]}), "name each dimension"),
    "order with a double": (node("permute", attrs={"order": [0, 1, 1]}), "name each dimension"),
    "pad of two": (node("pad", attrs={"before": [1, 1], "after": [1, 1]}), "it pads 2 and 2"),
    "pad of others": (node("pad", attrs={"before": [1, 1, 1], "after": [1, 1]}), "it pads 3 and 2"),
    "cut by padding": (node("pad", attrs={"before": [0, 0, 0], "after": [0, 0, -1]}), "after"),
    "padded with nothing": (node("pad", attrs={"before": [1] * 3, "after": [1] * 3, "value": float("nan")}), "value"),
    "three sides": (node("conv2d", weights=CONV, attrs={"padding": [1, 1, 1]}), "padding"),
    "no adaptive size": (node("adaptive_max_pool", attrs={"size": [0, 1]}), "size"),
    "max padding": (
        node("max_pool", attrs={"kernel": [2, 2], "stride": [1, 1], "padding": [0, 2, 0, 0]}),
        "only padding",
    ),
    "dilated max": (
        node("max_pool", attrs={"kernel": [2, 1], "stride": [1, 1], "padding": [5, 0], "dilation": [9, 1]}),
        "only padding",
    ),
    "sides of a mean": (node("avg_pool", attrs={"kernel": [2, 2], "stride": [1, 1], "padding": [0] * 4}), "padding"),
    "attribute of another op": (node("relu", attrs={"axis": 1}), "axis"),
    "weights of another op": (node("relu", weights=CONV), "takes no weights"),
    "dilation": (node("conv2d", weights=CONV, attrs={"dilation": [0, 2]}), "dilation"),
    "dilated over the edge": (node("conv2d", weights=CONV, attrs={"dilation": [1, 3]}), "does not fit"),
    "no stride": (node("conv2d", weights=CONV, attrs={"stride": [0, 1]}), "stride"),
    "negative padding": (node("conv2d", weights=CONV, attrs={"padding": [-1, 0]}), "padding"),
    "groups": (node("conv2d", weights=CONV, attrs={"groups": 3}), "3 groups"),
    "kernel for other channels": (node("conv2d", weights=CONV, attrs={"groups": 2}), r"expected \(any, 1, any, any\)"),
    "no weight": (node("conv2d"), "expected weight"),
    "another role": (node("conv2d", weights={**CONV, "scale": "b"}), "scale"),
    "no such member": (node("conv2d", weights={"weight": "v"}), "no member v.npy"),
    "the graph as a weight": (node("conv2d", weights={"weight": "graph"}), "uint8"),
    "bias of another length": (node("conv2d", weights={"weight": "w", "bias": "w"}), r"expected \(4\)"),
    "linear of another length": (node("linear", weights={"weight": "l"}), r"expected \(any, 5\)"),
    "window too large": (node("max_pool", attrs={"kernel": [7, 7], "stride": [1, 1]}), "does not fit"),
    "padding over half": (node("avg_pool", attrs={"kernel": [2, 2], "stride": [1, 1], "padding": [2, 0]}), "half"),
    "no kernel": (node("max_pool", attrs={"stride": [1, 1]}), "kernel"),
    "axis": (node("concat", "x", "x", attrs={"axis": 3}), "axis 3"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD_NODES.values(), ids=BAD_NODES)
def test_a_bad_node_is_refused_by_name(bad: dict[str, Any], reason: str) -> None:
    with pytest.raises(BundleError, match=reason) as caught:
        compile_graph(GraphFile(write_npz(graph(bad), w=KERNEL, b=BIAS, l=np.eye(4, dtype=np.float32))))
    if "member" not in reason and reason != "uint8":
        assert f"node '{bad['output']}' ({bad['op']})" in str(caught.value)


@pytest.mark.parametrize("op", sorted(op for op in OPS if "pool" in op or op == "conv2d"))
def test_an_image_op_on_a_vector_is_refused(op: str) -> None:
    attrs: dict[str, Any] = {"kernel": [1, 1], "stride": [1, 1]} if op in {"avg_pool", "max_pool"} else {}
    attrs = {"size": [1, 1]} if op.startswith("adaptive") else attrs
    data = write_npz(graph(node(op, attrs=attrs, weights=CONV if op == "conv2d" else {}), shape=(4,)), w=KERNEL, b=BIAS)
    assert "expected (channels, height, width)" in refusal(data)


@pytest.mark.parametrize("op", ["add", "sub", "mul", "concat"])
def test_inputs_that_do_not_fit_each_other_are_refused(op: str) -> None:
    assert f"({op})" in refusal(write_npz(graph(node("flatten", output="f"), node(op, "x", "f"))))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"\xff\xfe", b"null", json.dumps(graph()).encode(), b"[" * 100_000]
    + [json.dumps({**graph(node("relu")), **change}).encode() for change in (
        {"format": 2}, {"shape": []}, {"shape": [0, 1, 1]}, {"shape": [1 << 40]}, {"outputs": []},
        {"outputs": ["y", "x", "y"]}, {"outputs": ["z"]}, {"more": 1}, {"nodes": [node("relu")] * 5000},
        {"nodes": [{"op": "relu"}]},
    )],
    ids=lambda text: repr(text[:40]),
)  # fmt: skip
def test_a_graph_that_is_not_one_is_refused(text: bytes) -> None:
    refusal(write_npz(text))


def test_members_that_are_not_plain_float32_are_refused() -> None:
    conv = graph(node("conv2d", weights={"weight": "w"}))
    for wrong in (KERNEL.astype(np.float64), KERNEL.astype(">f4"), np.asfortranarray(KERNEL), KERNEL.astype(np.int32)):
        assert "expected float32 in C order" in refusal(write_npz(conv, w=wrong))
    assert "cannot be read" in refusal(write_npz(conv, w=np.array([{}], dtype=object)))
    assert "conv2d" in refusal(write_npz(conv, w=np.float32(1)))


def with_member(name: str, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A head whose convolution's weight is that member."""
    file = io.BytesIO(write_npz(graph(node("conv2d", weights={"weight": "w"}))))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, data, method)
    return file.getvalue()


@pytest.mark.parametrize("header", [
    b"", b"\x93NUMPY", b"\x93NUMPY\x03\0" + bytes(60), b"\x93NUMPY\x01\0\xff\xff{", b"\x93NUMPY\x01\0\x04\0{}  ",
    b"\x93NUMPY\x01\0\x46\0" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 9,)}".ljust(70),
    b"\x93NUMPY\x01\0\x46\0" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}".ljust(70),
    b"\x93NUMPY\x01\0\x46\0" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (9**9, 9**9)}".ljust(70),
    b"\x93NUMPY\x01\0\x46\0" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,)}".ljust(70),
])  # fmt: skip
def test_a_damaged_npy_header_is_refused(header: bytes) -> None:
    assert "w.npy" in refusal(with_member("w.npy", header))


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    file = io.BytesIO(write_npz(graph(node("conv2d", weights={"weight": "w"}))))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("w.npy", "w") as member:
        for _ in range((MAX_BYTES >> 24) + 1):
            member.write(bytes(1 << 24))
    tracemalloc.start()
    try:
        assert f"{MAX_BYTES + (1 << 24)} bytes" in refusal(file.getvalue())
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_member_that_is_longer_than_it_states_is_refused() -> None:
    data = with_member("w.npy", bytes(1 << 20))
    stated = struct.pack("<I", 1 << 20)
    assert "w.npy" in refusal(data.replace(stated, struct.pack("<I", 200)))


def test_a_run_that_would_take_too_much_memory_is_refused() -> None:
    wide = [node("concat", *[name] * 64, output=f"{name}c") for name in ("x", "xc", "xcc", "xccc")]
    assert "the cap is" in refusal(write_npz(graph(*wide, outputs=("xcccc",))))


LARGE: dict[str, tuple[list[dict[str, Any]], tuple[int, ...]]] = {
    "padding": ([node("pad", attrs={"before": [4096] * 3, "after": [0] * 3})], (1, 1, 1)),
    "outer product": (
        [node("permute", output="t", attrs={"order": [1, 0]}), node("mul", "x", "t")], (1, 1 << 16)
    ),
    "deep outer product": (
        [node("reshape", output=f"r{i}", attrs={"shape": [999] + [1] * i}) for i in range(8)]
        + [node("mul", f"r{i}", f"r{i + 1}", output=f"m{i}") for i in range(0, 8, 2)]
        + [node("add", "m6", "m0")], (999,)
    ),
    "adaptive pool": ([node("adaptive_avg_pool", attrs={"size": [4096, 4096]})], (8, 1, 1)),
    "padded pool": (
        [node("max_pool", attrs={"kernel": [4096, 4096], "stride": [1, 1], "padding": [4095] * 4})], (9, 9, 9)
    ),
    "padded convolution": ([node("conv2d", weights=CONV, attrs={"padding": [4096, 4096]})], (2, 6, 5)),
    "wide strides": (
        [node("conv2d", weights=CONV, attrs={"padding": [4096, 4096], "stride": [4096, 4096]})], (2, 6, 5)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "shape"), LARGE.values(), ids=LARGE)
def test_a_layer_that_would_take_too_much_memory_is_refused_before_it_is_taken(
    nodes: list[dict[str, Any]], shape: tuple[int, ...]
) -> None:
    data = write_npz(graph(*nodes, shape=shape), w=KERNEL, b=BIAS)
    tracemalloc.start()
    try:
        assert "the cap is" in refusal(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_an_activation_is_computed_with_the_layer_before_it_unless_others_read_that() -> None:
    conv = node("conv2d", output="a", weights=CONV)
    alone = graph(conv, node("relu6", "a"))
    shared = graph(conv, node("relu6", "a", output="b"), node("add", "a", "b"))
    seen = graph(conv, node("relu6", "a"), outputs=("y", "a"))
    view = graph(node("flatten", output="a"), node("relu6", "a"))
    x = np.random.default_rng(0).standard_normal((2, 6, 5), np.float32)
    for whole, steps in ((alone, 1), (shared, 3), (seen, 2), (view, 2)):
        compiled, _ = compile_graph(GraphFile(write_npz(whole, w=KERNEL, b=BIAS)))
        assert len(compiled) == steps
        before = x.copy()
        values = {"x": x}
        for step in compiled:
            values[step.output] = step.run(*[values[name] for name in step.inputs])
        np.testing.assert_array_equal(x, before)
        if "a" in values and "b" in values:
            np.testing.assert_array_equal(values["b"], np.clip(values["a"], 0, 6))


def test_values_live_until_their_last_reader_and_outputs_for_ever() -> None:
    nodes = [
        node("relu", output="a"),
        node("relu6", "a", output="b"),
        node("add", "x", "b", output="cut"),
        node("add", "a", "cut", output="dead"),
        node("concat", "a", "x", output="wide"),
        node("linear", "cut", output="logits", weights={"weight": "w"}),
    ]
    data = write_npz(graph(*nodes, shape=(4,), outputs=("cut", "logits")), w=np.eye(3, 4, dtype=np.float32))
    head = NumpyHead(data, manifest({**TWINS, "cut": {"dtype": "float32", "shape": (4,)}}))
    output = head.run(np.array([-1, 2, 7, 0], np.float32))
    np.testing.assert_array_equal(output.cut, np.array([-1, 4, 13, 0], np.float32))
    assert output.logits is not None
    np.testing.assert_array_equal(output.logits, output.cut[:3])


def test_an_output_that_is_the_input_is_a_copy() -> None:
    data = write_npz(graph(node("flatten"), shape=(4,), outputs=("x",)))
    head = NumpyHead(data, manifest({**TWINS, "cut": {"dtype": "float32", "shape": (4,)}}, has_exit=False))
    sample = np.ones(4, np.float32)
    assert not np.shares_memory(head.run(sample).cut, sample)


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_nothing(place: int, bit: int) -> None:
    data = bytearray((DATA / "twins.npz").read_bytes())
    data[place % len(data)] ^= 1 << bit
    whole = NumpyHead((DATA / "twins.npz").read_bytes(), manifest(TWINS))
    sample = np.ones(4, np.float32)
    try:
        head = NumpyHead(bytes(data), manifest(TWINS))
    except BundleError:
        return
    np.testing.assert_array_equal(head.run(sample).cut, whole.run(sample).cut)


@given(data=st.binary(max_size=400))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        NumpyHead(data, manifest(TWINS))
