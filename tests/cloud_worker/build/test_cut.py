"""Models cut on their graph: head and tail have the same bits as the whole, wherever it is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from cloud_worker.build.codecs.fisher import gradients
from cloud_worker.build.cut.cuts import Cut, Graph, cuts, split
from cloud_worker.build.export.to_numpy import export_numpy
from models.efficientnet_lite0.nets import make_net
from schemas.tensor import TensorSpec
from tests.cloud_worker.build.cut_models import (
    Net,
    UNet,
    VisionTransformer,
    branch_net,
    channels_last_net,
    integer_net,
    recurrent_net,
    resnet,
    settle,
    signal_net,
    sizes_net,
    token_encoder,
    traced,
)

IMAGE = (3, 16, 16)


def samples(count: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(count))


@contextmanager
def layer_by_layer() -> Iterator[None]:
    """Attention of torch.nn without its fused path, which rounds in another way."""
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def whole(module: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode(), layer_by_layer():
        out = module(x)
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first


def over_the_wire(x: Tensor) -> Tensor:
    """What the bytes of a tensor tell."""
    return torch.from_numpy(x.numpy().copy(order="C"))


def check_every_cut(module: nn.Module, graph: Graph) -> list[Cut]:
    shape = tuple(graph.input.meta["val"].shape[1:])
    found = cuts(graph)
    inputs = [samples(count, shape) for count in (1, 3)]
    wanted = [whole(module, x) for x in inputs]
    for cut in found:
        if cut.refused is None:
            check_one(graph, cut, inputs, wanted)
    return found


def check_one(graph: Graph, cut: Cut, inputs: list[Tensor], wanted: list[Tensor]) -> None:
    head, tail = split(graph, cut)
    assert cut.spec is not None
    assert not head.training
    assert not tail.training
    for x, y in zip(inputs, wanted, strict=True):
        with torch.inference_mode():
            packed = head(x)
            assert packed.is_contiguous()
            assert (packed.dtype, packed.shape) == (torch.float32, (len(x), *cut.spec.shape)), cut
            ours = tail(over_the_wire(packed))
        assert torch.equal(ours, y), (cut, (ours - y).abs().max())


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet": (resnet, (3, 32, 32)),
    "unet": (UNet, IMAGE),
    "vision transformer": (VisionTransformer, IMAGE),
    "token encoder": (token_encoder, (10, 6)),
    "signal": (signal_net, (2, 64)),
    "recurrent": (recurrent_net, (12, 3)),
    "integers": (integer_net, (5, 6)),
    "channels last": (channels_last_net, IMAGE),
    "sizes of the batch": (sizes_net, (6,)),
    "branch in the graph": (branch_net, (6,)),
}


@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
def test_head_and_tail_have_the_bits_of_the_whole_at_every_cut(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    found = check_every_cut(*traced(make, *shape))
    assert sum(cut.refused is None for cut in found) >= 3
    assert [cut.index for cut in found] == list(range(1, len(found) + 1))
    assert len({cut.name for cut in found}) == len({cut.tensors for cut in found}) == len(found)


def test_efficientnet_lite0_can_be_cut_anywhere() -> None:
    found = check_every_cut(*traced(make_net, 3, 32, 32))
    assert len(found) == 147
    assert not any(cut.refused for cut in found)
    blocks = [cut for cut in found if cut.name.isdecimal()]
    assert [cut.name for cut in blocks] == [str(step) for step in range(18)]
    assert all(len(cut.tensors) == 1 for cut in blocks)
    assert max(len(cut.tensors) for cut in found) == 2


def named(found: list[Cut], name: str) -> Cut:
    return next(cut for cut in found if cut.name == name)


def test_a_cut_says_what_crosses_and_what_the_head_costs() -> None:
    found = cuts(traced(resnet, 3, 32, 32)[1])
    stem = named(found, "0")
    assert (stem.index, stem.macs, stem.elements) == (1, 16 * 16 * 8 * 3 * 49, 16 * 16 * 8)
    assert stem.spec == TensorSpec(dtype="float32", shape=(8, 16, 16))
    inside = named(found, "4.conv2")
    assert [(each.name, each.dtype, each.shape) for each in inside.tensors] == [
        ("3", "float32", (8, 8, 8)),
        ("4.conv2", "float32", (8, 8, 8)),
    ]
    assert inside.spec == TensorSpec(dtype="float32", shape=(16, 8, 8))
    assert [cut.macs for cut in found] == sorted(cut.macs for cut in found)
    last = found[-1]
    assert (last.name, last.spec) == ("7", TensorSpec(dtype="float32", shape=(16,)))
    assert last.share == last.macs / (last.macs + 160)


def test_tensors_of_different_shapes_are_flattened_into_one() -> None:
    found = cuts(traced(UNet, *IMAGE)[1])
    bottom = named(found, "bottom")
    assert [each.shape for each in bottom.tensors] == [(4, 16, 16), (8, 8, 8), (8, 4, 4)]
    assert bottom.spec == TensorSpec(dtype="float32", shape=(1024 + 512 + 128,))


def test_what_comes_from_constants_alone_never_crosses() -> None:
    net, graph = traced(VisionTransformer, *IMAGE)
    found = cuts(graph)
    assert [each.shape for each in named(found, "patch").tensors] == [(16, 4, 4)]
    assert [len(named(found, name).tensors) for name in ("encoder.layers.0", "encoder")] == [1, 1]
    assert named(found, "encoder").modules == ("encoder", "encoder.layers.1")
    head, tail = split(graph, named(found, "patch"))
    assert set(head.state_dict()) == {"patch.weight", "patch.bias"}
    assert set(tail.state_dict()) == set(net.state_dict()) - set(head.state_dict())


def shared_table() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        table = net.get_parameter("table") * 2
        out: Tensor = torch.relu(x + table) * table
        return out

    net = Net(forward)
    net.register_parameter("table", nn.Parameter(torch.randn(4)))
    return net.eval()


def test_what_both_halves_need_both_compute() -> None:
    net, graph = traced(shared_table, 4)
    found = check_every_cut(net, graph)
    assert [len(cut.tensors) for cut in found] == [1, 1]
    assert [list(half.state_dict()) for half in split(graph, found[1])] == [["table"], ["table"]]


def test_weights_are_those_of_the_module() -> None:
    net, graph = traced(signal_net, 2, 64)
    head, tail = split(graph, cuts(graph)[0])
    assert head.get_parameter("0.weight") is net.get_parameter("0.weight")
    assert tail.get_buffer("1.running_mean") is net.get_buffer("1.running_mean")


def test_calls_that_only_hand_a_value_on_are_no_place_to_cut() -> None:
    net = nn.Sequential(
        nn.Linear(4, 4), nn.Dropout(), nn.Identity(), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2), nn.Dropout()
    )
    assert [cut.name for cut in check_every_cut(net.eval(), Graph.trace(net, torch.zeros(1, 4)))] == ["0", "3"]


def test_items_of_one_call_have_names_of_their_own() -> None:
    net = Net(lambda net, x: torch.cat(net.a(x).chunk(2, dim=1)[::-1], dim=1).relu(), a=nn.Linear(4, 6)).eval()
    found = check_every_cut(net, Graph.trace(net, torch.zeros(1, 4)))
    assert [[each.name for each in cut.tensors] for cut in found] == [["a"], ["split[0]", "split[1]"], ["cat"]]


@pytest.mark.parametrize(
    ("make", "shape", "name"),
    [(UNet, IMAGE, "bottom"), (VisionTransformer, IMAGE, "encoder.layers.0"), (token_encoder, (10, 6), "layers.0.qkv")],
)
def test_halves_can_be_exported_again_for_any_batch_size(
    make: Callable[[], nn.Module], shape: tuple[int, ...], name: str
) -> None:
    _, graph = traced(make, *shape)
    head, tail = split(graph, named(cuts(graph), name))
    x = samples(2, shape)
    for half, example in ((head, x), (tail, head(x).detach())):
        program = torch.export.export(half, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        for count in (1, 5):
            other = samples(count, tuple(example.shape[1:]))
            with torch.inference_mode():
                assert torch.equal(program.module()(other), half(other))


def test_a_head_fits_into_numpy_and_a_tail_has_gradients() -> None:
    net = settle(nn.Sequential(*resnet()[:4], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)))
    graph = Graph.trace(net, torch.zeros(1, 3, 32, 32))
    head, tail = split(graph, named(cuts(graph), "3"))
    assert export_numpy(head, samples(1, (3, 32, 32))) == export_numpy(net[:4].eval(), samples(1, (3, 32, 32)))
    x = samples(2, (8, 8, 8))
    assert torch.equal(gradients(tail, x, draws=2), gradients(net[4:], x, draws=2))


MACS: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "grouped convolution": (nn.Conv2d(4, 8, 3, groups=2), (4, 5, 5), 8 * 9 * 2 * 9),
    "transposed convolution": (nn.ConvTranspose2d(4, 6, 2, 2), (4, 5, 5), 4 * 25 * 6 * 4),
    "linear on tokens": (nn.Linear(6, 8), (10, 6), 10 * 6 * 8),
    "matmul": (Net(lambda _, x: x @ x.transpose(1, 2)), (5, 7), 5 * 5 * 7),
    "baddbmm": (Net(lambda _, x: torch.baddbmm(x, x, x)), (5, 5), 125),
    "attention": (
        Net(lambda _, x: nn.functional.scaled_dot_product_attention(x, x, x)),
        (2, 5, 7),
        2 * 5 * 5 * 14,
    ),
    "einsum": (Net(lambda _, x: torch.einsum("nij,nkj->nik", x, x)), (5, 7), 5 * 5 * 7),
    "einsum of one": (Net(lambda _, x: torch.einsum("nij->nji", x)), (5, 7), 0),
    "einsum with an ellipsis": (Net(lambda _, x: torch.einsum("...ij,...jk->...ik", x, x)), (5, 5), 0),
    "recurrent": (Net(lambda net, x: net.a(x)[0], a=nn.GRU(3, 8, batch_first=True)), (12, 3), 12 * 24 * (3 + 8)),
    "addition": (Net(lambda _, x: x + x), (5,), 0),
}


@pytest.mark.parametrize(("module", "shape", "macs"), MACS.values(), ids=MACS)
def test_multiply_accumulates(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    net = Net(lambda net, x: net.inner(x).relu(), inner=module).eval()
    assert cuts(Graph.trace(net, torch.zeros(1, *shape)))[-1].macs == macs
