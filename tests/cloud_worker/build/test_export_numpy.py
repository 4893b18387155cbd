"""Torch modules as `head.npz`: what is exported computes the same in NumPy, what cannot be is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from cloud_worker.build.choose import named_cut
from cloud_worker.build.cut.cuts import Graph, cuts
from cloud_worker.build.export.to_numpy import export_numpy
from cloud_worker.build.learn.pair import make_pair
from cloud_worker.build.learn.settings import LearnSettings
from edge_node.numpy_graph import GraphFile
from edge_node.numpy_head import NumpyHead
from models.fashion_mnist.nets import Full
from schemas.bundle import Manifest
from schemas.errors import BundleError
from tests.edge_node.head_files import IMAGE, manifest

SIDE = 8


class Net(nn.Module):
    """A module from a function of its input, with named children."""

    def __init__(self, function: Callable[..., object], **children: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


def settle(module: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with BatchNorm statistics that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            norm.running_mean = torch.randn(norm.num_features, generator=generator)
            norm.running_var = torch.rand(norm.num_features, generator=generator) + 0.5
            if norm.affine:
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)
    return module.eval()


def manifest_for(cut: Tensor, logits: Tensor | None, channels: int, side: int = SIDE) -> Manifest:
    sample = {"dtype": "uint8", "shape": (side, side, channels)}
    return manifest(
        {**IMAGE, "sample": sample, "cut": {"dtype": "float32", "shape": tuple(cut.shape[1:])}},
        labels=tuple(str(index) for index in range(1 if logits is None else logits.shape[1])),
        has_exit=logits is not None,
    )


def check(module: nn.Module, channels: int = 2, side: int = SIDE) -> bytes:
    """Export, open, and compare for two inputs; returns the file."""
    data = export_numpy(module, torch.zeros(1, channels, side, side))
    for seed in (0, 1):
        x = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            outputs = module(x)
        cut, logits = outputs if isinstance(outputs, tuple) else (outputs, None)
        ours = NumpyHead(data, manifest_for(cut, logits, channels, side)).run(x[0].numpy())
        np.testing.assert_allclose(ours.cut, cut[0].numpy(), atol=1e-4)
        if logits is not None:
            assert ours.logits is not None
            np.testing.assert_allclose(ours.logits, logits[0].numpy(), atol=1e-4)
    return data


def test_the_reference_head_computes_the_same() -> None:
    graph = Graph.trace(Full().eval(), torch.zeros(1, 1, 28, 28))
    pair = make_pair(graph, named_cut(cuts(graph), "stem"), LearnSettings())
    data = check(settle(pair.head), channels=1, side=28)
    ops = {node.op for node in GraphFile(data).graph.nodes}
    assert ops == {"conv2d", "relu", "add", "global_avg_pool", "flatten", "linear"}


def in_place_after_a_view(y: Tensor) -> tuple[Tensor, Tensor]:
    flat = y.flatten(1)
    return y.relu_(), flat


def twice(y: Tensor, layer: nn.Module) -> Tensor:
    total: Tensor = layer(y) + y
    return total


FUNCTIONS: dict[str, Callable[..., object]] = {
    "functions": lambda net, x: functional.relu6(torch.relu(net.a(x)) + functional.hardswish(x)),
    "methods": lambda net, x: net.a(x).relu().clamp(0, 6),
    "clamp_min": lambda net, x: net.a(x).clamp_min(0),
    "hardtanh": lambda net, x: functional.hardtanh(net.a(x), 0.0, 6.0),
    "in place": lambda net, x: net.a(x).relu_().add_(x),
    "in place, seen through a view": lambda net, x: in_place_after_a_view(net.a(x)),
    "two readers": lambda net, x: (net.a(x) + x, net.a(x).flatten(1)),
    "max pool": lambda net, x: functional.max_pool2d(net.a(x), 3, 2, 1),
    "average pool": lambda net, x: functional.avg_pool2d(net.a(x), (2, 3), padding=1, count_include_pad=False),
    "mean": lambda net, x: (net.a(x), x.mean((2, 3))),
    "mean kept": lambda net, x: (net.a(x), x.mean((-1, -2), keepdim=True).view(1, -1)),
    "global pool": lambda net, x: (net.a(x), functional.adaptive_avg_pool2d(x, (1, 1)).squeeze((2, 3))),
    "reshape": lambda net, x: (net.a(x), functional.adaptive_avg_pool2d(x, 1).reshape(x.shape[0], -1)),
    "concat": lambda net, x: torch.cat([net.a(x), x, x], dim=1),
    "concat from the end": lambda net, x: torch.cat([net.a(x), x], dim=-1),
    "converted to what it is": lambda net, x: net.a(x).to(torch.float32, copy=True).float(),
    "nothing to do": lambda net, x: functional.dropout(net.a(x).contiguous(), training=net.training).detach(),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_every_way_to_write_a_layer(function: Callable[..., object]) -> None:
    check(Net(function, a=nn.Conv2d(2, 2, 1)).eval())


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "hardswish": nn.Hardswish,
    "relu6": lambda: nn.ReLU6(inplace=True),
    "identity and dropout": lambda: nn.Sequential(nn.Identity(), nn.Dropout(), nn.ReLU()),
    "same padding": lambda: nn.Conv2d(2, 3, 3, padding="same"),
    "valid padding": lambda: nn.Conv2d(2, 3, 3, padding="valid"),
    "strided and grouped": lambda: nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2),
    "batch norm": lambda: nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU()),
    "batch norm after bias": lambda: nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.BatchNorm2d(2)),
    "plain batch norm": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, affine=False)),
    "linear batch norm": lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 5), nn.BatchNorm1d(5), nn.ReLU()),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_every_layer(make: Callable[[], nn.Module]) -> None:
    check(settle(make()))


def test_one_convolution_used_twice_keeps_its_weights_apart() -> None:
    shared = nn.Conv2d(2, 2, 3, padding=1)
    check(settle(nn.Sequential(shared, nn.BatchNorm2d(2), shared, nn.BatchNorm2d(2), shared)))


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "activation": (nn.Sequential(nn.Conv2d(2, 2, 1), nn.Mish()), r"mish \(aten\.mish\.default\) in .*1"),
    "transposed": (nn.ConvTranspose2d(2, 2, 2), "conv_transpose2d"),
    "reflected": (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "reflect"),
    "negative padding": (nn.ZeroPad2d((-1, 0, 0, 0)), "it pads by"),
    "endless padding": (nn.ConstantPad2d(1, -torch.inf), "it pads by"),
    "padded batch": (Net(lambda _, x: functional.pad(x, (0,) * 7 + (1,))), "batch"),
    "computed weight": (Net(lambda _, x: functional.conv2d(x, x)), "is not a parameter"),
    "computed divisor": (Net(lambda _, x: x / x), "it divides by"),
    "division by nought": (Net(lambda _, x: x / 0.0), "it divides by"),
    "many samples": (Net(lambda _, x: x + torch.ones(3, 1, 1, 1)), "no batch dimension of 1"),
    "integers": (Net(lambda _, x: x.int() + 1), "int32"),
    "double": (Net(lambda _, x: x + torch.ones(1, dtype=torch.float64)), "float64"),
    "random": (Net(lambda _, x: x + torch.rand(1)), "rand"),
    "softmax of samples": (nn.Softmax(0), "along the batch"),
    "image as a sample": (Net(lambda n, x: n.a(x[0])[None], a=nn.Conv2d(2, 2, 1)), "batch|select"),
    "average rounded up": (nn.AvgPool2d(3, ceil_mode=True), "ceil_mode"),
    "divisor": (nn.AvgPool2d(2, divisor_override=3), "divisor_override"),
    "indices": (Net(lambda _, x: functional.max_pool2d(x, 2, return_indices=True)[1]), "getitem"),
    "mean of channels": (Net(lambda _, x: x.mean(1)), "only over height and width"),
    "moved batch": (Net(lambda _, x: x.transpose(0, 1)), "batch dimension"),
    "folded batch": (Net(lambda _, x: x.reshape(2, 64)), "batch dimension"),
    "no batch": (Net(lambda _, x: x.mean((2, 3)).squeeze()), "batch dimension"),
    "slice": (Net(lambda _, x: x[:, :1]), "slice"),
    "masked attention": (
        Net(lambda _, x: functional.scaled_dot_product_attention(x, x, x, is_causal=True)),
        "plain attention",
    ),
    "a product of several by one": (Net(lambda _, x: x @ x[:, 0]), "select|must be the same"),
    "instance norm": (nn.InstanceNorm2d(2), "instance_norm|batch_norm"),
    "batch": (Net(lambda _, x: torch.cat([x, x])), "batch dimension"),
    "constant in a concat": (Net(lambda _, x: torch.cat([x, torch.ones(1, 2, 8, 8)], 1)), "is a constant"),
    "three outputs": (Net(lambda _, x: (x.relu(), x.relu(), x.relu())), "returns 3 tensors"),
    "constant output": (Net(lambda n, x: (x, n.a.weight), a=nn.Linear(2, 2)), "an output must be computed"),
    "parameters alone": (nn.ParameterList(), "cannot trace"),
    "branch": (Net(lambda _, x: x if x.sum() > 0 else -x), "cannot trace"),
}


@pytest.mark.parametrize(("module", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_place_in_a_head_is_refused_by_name(module: nn.Module, reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        export_numpy(module.eval(), torch.zeros(1, 2, SIDE, SIDE))


def test_a_module_in_training_mode_and_a_batch_are_refused() -> None:
    for module, example in (
        (nn.ReLU().train(), torch.zeros(1, 2, 2, 2)),
        (nn.ReLU().eval(), torch.zeros(2, 2, 2, 2)),
        (nn.ReLU().eval(), torch.zeros(1, 2, 2, 2, dtype=torch.float64)),
    ):
        with pytest.raises(BundleError, match="export in eval mode with a float32 example of batch size 1"):
            export_numpy(module, example)


def test_equal_weights_give_equal_bytes_and_the_module_is_left_alone() -> None:
    module = settle(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    example = torch.zeros(1, 2, SIDE, SIDE)
    assert export_numpy(module, example) == export_numpy(module, torch.ones_like(example))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_the_committed_heads_are_what_the_exporter_writes() -> None:
    """Old and new releases of torch name their operators differently; the graph must not change with them."""
    from tests.edge_node.data.make import Plain  # noqa: PLC0415 - imports the other exporter

    torch.manual_seed(0)
    data = export_numpy(Plain().eval(), torch.zeros(1, 1, SIDE, SIDE))
    committed = GraphFile((Path(__file__).parents[2] / "edge_node" / "data" / "plain.npz").read_bytes())
    assert GraphFile(data).graph == committed.graph


@settings(max_examples=6)
@given(
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    strides=st.lists(st.integers(1, 2), min_size=4, max_size=4),
    depthwise=st.booleans(),
    seed=st.integers(0, 99),
)
def test_random_nets(widths: list[int], strides: list[int], depthwise: bool, seed: int) -> None:  # noqa: FBT001
    layers: list[nn.Module] = []
    channels = 2
    for width, stride in zip(widths, strides, strict=False):
        if depthwise:
            layers += [
                nn.Conv2d(channels, channels, 3, stride, 1, groups=channels),
                nn.BatchNorm2d(channels),
                nn.ReLU6(),
            ]
        layers += [nn.Conv2d(channels, width, 1 if depthwise else 3, 1, 1), nn.BatchNorm2d(width), nn.Hardswish()]
        channels = width
    check(settle(nn.Sequential(*layers), seed))
