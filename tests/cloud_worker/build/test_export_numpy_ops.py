"""Every op of the NumPy head against torch, and random nets of them: in one dimension and in two."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from cloud_worker.build.cut.cuts import Graph, cuts, split
from cloud_worker.build.export.to_numpy import export_numpy
from edge_node.numpy_graph import GraphFile
from models.efficientnet_lite0.nets import SIDE, make_net
from tests.cloud_worker.build.cut_models import Net, resnet, settle, signal_net
from tests.cloud_worker.build.numpy_heads import check, head_of, sample

IMAGE, SIGNAL, VECTOR = (4, 9, 8), (4, 11), (12,)


class Constants(nn.Module):
    """Parameters in sums and products, some of them computed from parameters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(1, 4, 9, 8))
        self.channel = nn.Parameter(torch.randn(4, 1, 1))
        self.register_buffer("mean", torch.tensor([1.0, 2, 3, 4]))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4, 9, 8) -> (N, 4, 9, 8)."""
        x = (x - self.get_buffer("mean").view(1, 4, 1, 1)) / 2.5 + self.place
        x = 1 - self.channel.exp() * x * 0.5
        return torch.sub(x, self.channel, alpha=2) + torch.arange(8)


def squeeze_and_excite(net: nn.Module, x: Tensor) -> Tensor:
    pooled: Tensor = x.mean((2, 3), keepdim=True)
    out: Tensor = x * functional.hardsigmoid(net.get_submodule("b")(functional.silu(net.get_submodule("a")(pooled))))
    return out


def every_activation(net: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([each(x) for each in net.get_submodule("a").children()], 1)


def product(net: nn.Module, x: Tensor) -> Tensor:
    q, k = (net.get_submodule(name)(x) for name in "ab")
    return (q @ k.transpose(1, 2) / 3).softmax(-1) @ x


def attention(net: nn.Module, x: Tensor) -> Tensor:
    heads = [net.get_submodule(name)(x).view(x.shape[0], x.shape[1], 2, 3).transpose(1, 2) for name in "abc"]
    return functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)


ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.GELU,
    lambda: nn.GELU("tanh"), nn.ELU, lambda: nn.Softmax(1), nn.Identity,
)  # fmt: skip

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dilated": (lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (2, 3), groups=2), IMAGE),
    "even same padding": (lambda: nn.Conv2d(4, 3, (3, 4), padding="same", dilation=(1, 2)), IMAGE),
    "padded unevenly": (lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(4, 3, 3, 2, 1)), IMAGE),
    "padded twice": (lambda: nn.Sequential(nn.ZeroPad2d(1), nn.ZeroPad2d((0, 1, 0, 0)), nn.Conv2d(4, 3, 3)), IMAGE),
    "padded with ones": (lambda: nn.Sequential(nn.ConstantPad2d((0, 1, 2, 0), 1.0), nn.Conv2d(4, 3, 3)), IMAGE),
    "padded channels": (lambda: Net(lambda _, x: functional.pad(x, (0, 0, 1, 0, 2, 0))), IMAGE),
    "depthwise": (lambda: nn.Conv2d(4, 4, 5, 2, 2, groups=4), IMAGE),
    "depthwise with two kernels": (lambda: nn.Conv2d(4, 8, 3, 1, 1, groups=4), IMAGE),
    "signal": (lambda: nn.Conv1d(4, 6, 4, 2, 3, 2, groups=2), SIGNAL),
    "signal, same padding": (lambda: nn.Conv1d(4, 6, 4, padding="same"), SIGNAL),
    "signal net": (
        lambda: nn.Sequential(
            *[nn.ConstantPad1d((2, 1), 0.0), nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2)],
            *[nn.Conv1d(6, 6, 3, groups=6), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)],
        ),
        SIGNAL,
    ),
    "product of two": (lambda: Net(product, a=nn.Linear(11, 5), b=nn.Linear(11, 5)), SIGNAL),
    "attention": (lambda: Net(attention, **{name: nn.Linear(11, 6) for name in "abc"}), SIGNAL),
    "signal mean": (lambda: Net(lambda _, x: x.mean(-1)), SIGNAL),
    "linear on the last dimension": (lambda: nn.Linear(8, 3), IMAGE),
    "max pool": (lambda: nn.MaxPool2d((3, 2), (2, 1), (1, 0), (2, 3)), IMAGE),
    "max pool rounded up": (lambda: nn.MaxPool2d(3, 2, ceil_mode=True), IMAGE),
    "max pool with indices": (
        lambda: Net(lambda _, x: functional.max_pool2d(x, 2, return_indices=True)[0]),
        IMAGE,
    ),
    "average pool": (lambda: nn.AvgPool2d((4, 2), (3, 2), (2, 1), count_include_pad=False), IMAGE),
    "average pool, rounded up for nothing": (lambda: nn.AvgPool2d((3, 2), ceil_mode=True), IMAGE),
    "adaptive pools": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d((5, 3)), nn.AdaptiveMaxPool2d((3, 3))),
        IMAGE,
    ),
    "adaptive pools that divide": (
        lambda: nn.Sequential(nn.AdaptiveMaxPool2d((3, None)), nn.AdaptiveAvgPool2d((1, 4))),
        IMAGE,
    ),
    "adaptive pools of a signal": (
        lambda: nn.Sequential(nn.AdaptiveMaxPool1d(7), nn.AdaptiveAvgPool1d(13)),
        SIGNAL,
    ),
    "activations": (lambda: Net(every_activation, a=nn.ModuleList(make() for make in ACTIVATIONS)), IMAGE),
    "activations of a vector": (lambda: nn.Sequential(nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU()), VECTOR),
    "clip": (lambda: nn.Sequential(nn.Hardtanh(), Net(lambda _, x: x.clamp_max(0.5))), IMAGE),
    "constants": (Constants, IMAGE),
    "one number": (lambda: Net(lambda _, x: 2 - (-x) * 3), VECTOR),
    "broadcast": (lambda: Net(lambda _, x: torch.sub(x.mean((2, 3), keepdim=True), x, alpha=2)), IMAGE),
    "scaled sum": (lambda: Net(lambda _, x: torch.add(x, x.relu(), alpha=2) - x.tanh()), IMAGE),
    "excite": (lambda: Net(squeeze_and_excite, a=nn.Conv2d(4, 2, 1), b=nn.Conv2d(2, 4, 1)), IMAGE),
    "moved": (
        lambda: Net(lambda _, x: x.permute(0, 2, 3, 1).reshape(1, 9, -1).transpose(1, 2).unsqueeze(1)),
        IMAGE,
    ),
    "shuffled channels": (
        lambda: Net(lambda n, x: n.a(x.view(1, 2, 2, 9, 8).transpose(1, 2).flatten(1, 2)), a=nn.Conv2d(4, 2, 3)),
        IMAGE,
    ),
    "batch norm first": (lambda: nn.BatchNorm2d(4), IMAGE),
    "batch norm of a vector": (lambda: nn.BatchNorm1d(12), VECTOR),
    "batch norm after an activation": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU6()),
        IMAGE,
    ),
    "batch norm of a shared value": (
        lambda: Net(lambda n, x: n.b(n.a(x)) + n.a(x), a=nn.Conv2d(4, 4, 1), b=nn.BatchNorm2d(4)),
        IMAGE,
    ),
    "batch norm after a linear layer on a signal": (
        lambda: nn.Sequential(nn.Linear(11, 4), nn.BatchNorm1d(4)),
        SIGNAL,
    ),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm((9, 8)), nn.LayerNorm(8, elementwise_affine=False)), IMAGE),
    "group norm": (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.GroupNorm(4, 4, affine=False)), IMAGE),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # of torch, about its own copies
@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_an_op_gives_what_torch_gives(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    check(settle(make()), shape)


def test_a_pad_with_noughts_is_part_of_the_convolution() -> None:
    module = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(2, 2, 3, 2), nn.BatchNorm2d(2)).eval()
    (node,) = GraphFile(export_numpy(module, torch.zeros(1, 2, 8, 8))).graph.nodes
    assert (node.op, node.attrs["padding"]) == ("conv2d", [0, 1, 0, 1])


def test_the_head_of_efficientnet_computes_the_same() -> None:
    torch.manual_seed(0)
    net = settle(make_net()[:7])
    x = sample((3, SIDE, SIDE))
    with torch.inference_mode():
        theirs = net(x)[0]
    ours = torch.from_numpy(head_of(net, (3, SIDE, SIDE)).run(x[0].numpy()).cut)
    assert theirs.abs().max() > 0
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize(
    ("net", "shape", "steps"),
    [(resnet(), (3, 16, 16), (3, 9, 14)), (signal_net(), (2, 64), (2, 4, 6)), (make_net()[:3], (3, 32, 32), (2, 20))],
    ids=["residual", "signal", "efficientnet"],
)
def test_a_head_that_was_cut_computes_the_same(net: nn.Module, shape: tuple[int, ...], steps: tuple[int, ...]) -> None:
    graph = Graph.trace(settle(net), torch.zeros(1, *shape))
    good = [cut for cut in cuts(graph) if cut.refused is None]
    for step in steps:
        head, _ = split(graph, good[min(step, len(good) - 1)])
        check(head, shape)


class Layer(nn.Module):
    """One random layer that takes (N, channels, h, w) or (N, channels, n) and keeps the rank."""

    def __init__(self, draw: st.DrawFn, channels: int, dims: int) -> None:
        super().__init__()
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if dims == 1 else (nn.Conv2d, nn.BatchNorm2d)
        most, mean = (nn.MaxPool1d, nn.AvgPool1d) if dims == 1 else (nn.MaxPool2d, nn.AvgPool2d)
        adaptive = nn.AdaptiveAvgPool1d if dims == 1 else nn.AdaptiveAvgPool2d
        kernel, stride, dilation = (draw(st.integers(1, limit)) for limit in (4, 3, 2))
        padding = dilation * (kernel - 1) - (kernel > 2)
        kinds: dict[str, Callable[[], nn.Module]] = {
            "conv": lambda: conv(channels, 6, kernel, stride, padding, dilation, groups=draw(st.sampled_from([1, 2]))),
            "depthwise": lambda: conv(channels, channels, kernel, stride, padding, dilation, groups=channels),
            "pad": lambda: nn.ConstantPad1d((kernel, stride), 0.5) if dims == 1 else nn.ZeroPad2d((0, stride, 1, 0)),
            "max": lambda: most(kernel, stride, kernel // 2),
            "mean": lambda: mean(kernel, stride, kernel // 2, count_include_pad=draw(st.booleans())),
            "adaptive": lambda: adaptive(kernel),
            "norm": lambda: norm(channels),
            "group norm": lambda: nn.GroupNorm(2, channels),
        }
        self.layer = kinds[draw(st.sampled_from(sorted(kinds)))]()
        self.activation = draw(st.sampled_from(ACTIVATIONS))()
        self.joins = draw(st.booleans())

    def forward(self, x: Tensor) -> Tensor:
        """The layer, and where the shape is kept perhaps a sum, a product and a concat with its input."""
        out: Tensor = self.activation(self.layer(x))
        return torch.cat([out + x, out * x], 1) if self.joins and out.shape == x.shape else out


@st.composite
def nets(draw: st.DrawFn) -> tuple[nn.Sequential, tuple[int, ...]]:
    """A net of up to four layers, in one dimension or two."""
    dims = draw(st.integers(1, 2))
    shape = (4, *[draw(st.integers(6, 9)) for _ in range(dims)])
    torch.manual_seed(draw(st.integers(0, 99)))
    layers: list[nn.Module] = []
    x = torch.zeros(1, *shape)
    for _ in range(draw(st.integers(1, 4))):
        layers.append(Layer(draw, x.shape[1], dims).eval())
        x = layers[-1](x)
        if min(x.shape[2:]) < 4:
            break
    return nn.Sequential(*layers), shape


@settings(max_examples=10, deadline=None)
@given(case=nets(), seed=st.integers(0, 99))
def test_random_nets_give_what_torch_gives(case: tuple[nn.Sequential, tuple[int, ...]], seed: int) -> None:
    net, shape = case
    check(settle(net), shape, seed)
