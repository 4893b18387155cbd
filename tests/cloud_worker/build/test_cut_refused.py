"""Models and places that cannot be cut are refused, with the reason and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cloud_worker.build.cut.cuts import Graph, cuts, split
from cloud_worker.build.cut.pack import packing, refuse_shape
from schemas.errors import BundleError, ConfigError
from tests.cloud_worker.build.cut_models import Net, UNet, VisionTransformer, integer_net, token_encoder, traced

EXAMPLE = torch.zeros(1, 6)


def reasons(module: nn.Module, example: Tensor = EXAMPLE) -> dict[str, str | None]:
    return refusals(Graph.trace(module.eval(), example))


def refusals(graph: Graph) -> dict[str, str | None]:
    return {cut.name: cut.refused for cut in cuts(graph)}


def test_integers_and_bools_do_not_cross() -> None:
    found = refusals(traced(integer_net, 5, 6)[1])
    assert found["enter"] is None
    assert found["argmax"] is not None
    assert re.search(r"argmax crosses, which is int64; only float32 can: cut before .* or after", found["argmax"])
    assert re.search(r"gt crosses, which is bool", str(found["gt"]))
    assert found["add"] is None


def halved(_: Any, x: Tensor) -> Tensor:
    return (x.relu().half() * 2).float().sigmoid()


def after_the_mean(_: Any, x: Tensor) -> Tensor:
    return x.relu().mean() + torch.sigmoid(x.relu())


def turned(_: Any, x: Tensor) -> Tensor:
    return (x.relu().transpose(0, 1) * 2).transpose(0, 1)


def folded(_: Any, x: Tensor) -> Tensor:
    return (x.reshape(x.shape[0] * 2, 3) * 2).view(x.shape[0], 6)


def selected(_: Any, x: Tensor) -> Tensor:
    positive = x[x > 0].clone()[1:] * 2
    return x.relu() + positive.sum()


def counted(_: Any, x: Tensor) -> Tensor:
    count = (x.relu() > 0).sum().item()
    return x.relu() * count


def much(_: Any, x: Tensor) -> Tensor:
    return (x.relu()[:, :, None] * torch.ones(20_000)).flatten(1)[:, :6] * 2


def nothing(_: Any, x: Tensor) -> Tensor:
    return x.relu()[:, :0].sum(1, keepdim=True) + torch.ones(6)


CROSSINGS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "another float": (halved, r"which is float16; only float32 can"),
    "one for all samples": (after_the_mean, r"mean crosses, which has no batch dimension"),
    "batch last": (turned, r"whose batch dimension is at place 1, not first"),
    "folded batch": (folded, r"which has the batch and other dimensions folded into one"),
    "size of the data": (selected, r"whose size depends on the data"),
    "number of the data": (counted, r"no tensor but a number"),
    "skip from the input": (lambda _, x: x.relu() + x, r"the input itself is needed after it"),
    "long": (much, r"a dimension is 120000 long, at most 65536"),
    "empty": (nothing, r"a tensor of shape \[0\] is empty"),
}


@pytest.mark.parametrize(("function", "reason"), CROSSINGS.values(), ids=CROSSINGS)
def test_what_cannot_cross(function: Callable[[Any, Tensor], Tensor], reason: str) -> None:
    net = nn.Sequential(nn.Identity() if "input" in reason else nn.Linear(6, 6), Net(function), nn.Linear(6, 6))
    assert any(re.search(reason, text) for text in reasons(net).values() if text)


def test_too_many_tensors() -> None:
    _, graph = traced(UNet, 3, 16, 16)
    assert {cut.refused for cut in cuts(graph, most_tensors=1)} - {None} == {
        f"{count} tensors cross, at most 1 are allowed; cut where fewer do" for count in (2, 3)
    }
    assert {cut.refused for cut in cuts(graph, most_tensors=3)} == {None}


def test_more_values_than_a_spec_allows() -> None:
    reason = refuse_shape(packing([(256, 512, 512), (1, 512, 512)]))
    assert reason == "67371008 values cross, at most 67108864 is possible; cut where less crosses"
    assert refuse_shape(packing([(256, 512, 512)])) is None


def test_flattened_skips_may_be_too_long() -> None:
    found = reasons(UNet(), torch.zeros(1, 3, 128, 128))
    assert "flattened to one dimension, since their shapes differ, they are 106496 long" in str(found["bottom"])


def test_a_refused_or_a_strange_cut_is_not_made() -> None:
    _, graph = traced(integer_net, 5, 6)
    found = cuts(graph)
    refused = next(cut for cut in found if cut.refused)
    assert refused.spec is None
    with pytest.raises(ConfigError, match=rf"cannot be cut after {refused.name} \(cut {refused.index}\): "):
        split(graph, refused)
    other = cuts(Graph.trace(nn.Sequential(nn.Linear(6, 3), nn.ReLU()).eval(), EXAMPLE))[0]
    for cut in (other, replace(found[0], index=0), replace(found[0], index=99)):
        with pytest.raises(ConfigError, match=r"not of this graph; take one of cuts\(graph\)"):
            split(graph, cut)


def test_reasons_name_the_module_in_a_real_model() -> None:
    texts = [text for text in refusals(traced(token_encoder, 10, 6)[1]).values() if text]
    assert any(re.match(r"layers\.0/\w+ crosses, which has the batch and other dimensions folded", t) for t in texts)
    texts = [text for text in refusals(traced(VisionTransformer, 3, 16, 16)[1]).values() if text]
    assert any("self_attn/" in text and "place 1, not first" in text for text in texts)


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return x * self.seen


def in_training() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.Dropout()).eval()
    net[1].train()
    return net


def fixed(_: Any, x: Tensor) -> Tensor:
    return x.view(1, 2, 3).relu().view(x.shape[0], 6) if x.shape[0] == 1 else x.view(2, -1)


MODULES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "branch on values": (
        lambda: Net(lambda _, x: x if x.sum() > 0 else -x),
        "cannot trace .* free of branches on values",
    ),
    "several inputs": (Two, r"takes 2 inputs \(x, y\); wrap it"),
    "training": (in_training, r"1 is in training mode; call eval\(\)"),
    "state": (Counter, "writes its buffers seen"),
    "noise": (lambda: Net(lambda _, x: x + torch.rand(6)), "draws random numbers in eval mode"),
    "dropout that stays": (lambda: Net(lambda _, x: nn.functional.dropout(x)), "draws random numbers"),
    "batch written out": (lambda: Net(lambda _, x: x.view(1, 3, 2).relu()), "one batch size only .* x.shape"),
    "batch by branch": (lambda: Net(fixed), "one batch size only"),
    "no tensor": (lambda: Net(lambda _, x: {"logits": x}), "returns dict; return a tensor"),
    "nothing": (lambda: Net(lambda _, _x: ()), "returns tuple"),
    "constant": (lambda: Net(lambda _, x: torch.ones(x.shape[0], 3)), "not computed for each sample"),
    "input": (lambda: Net(lambda _, x: x), "not computed for each sample"),
    "one for all": (lambda: Net(lambda _, x: x.mean()), r"returns \[\], which is not computed for each sample"),
    "joined samples": (lambda: Net(lambda _, x: x.reshape(1, -1).relu()), "not computed for each sample"),
}


@pytest.mark.parametrize(("make", "reason"), MODULES.values(), ids=MODULES)
def test_a_module_that_cannot_be_cut(make: Callable[[], nn.Module], reason: str) -> None:
    net = make()
    with pytest.raises(BundleError, match=reason):
        Graph.trace(net if reason.startswith("1 is in") else net.eval(), EXAMPLE)


EXAMPLES: dict[str, tuple[Any, str]] = {
    "a batch": (torch.zeros(2, 6), r"float32\[2, 6\]; give one float32 tensor of one sample"),
    "integers": (torch.zeros(1, 6, dtype=torch.int64), r"int64\[1, 6\]"),
    "no dimensions": (torch.zeros(1), r"float32\[1\]"),
    "empty": (torch.zeros(1, 0), r"float32\[1, 0\]"),
    "a list": ([0.0], "the example is a list"),
    "another shape": (torch.zeros(1, 5), r"does not take the example of \[1, 5\] \(RuntimeError"),
}


@pytest.mark.parametrize(("example", "reason"), EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_that_does_not_fit(example: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Graph.trace(nn.Linear(6, 3).eval(), example)


def test_a_trace_leaves_the_module_and_torch_as_they_were() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3)).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    example, state = -torch.ones(1, 6), torch.get_rng_state()
    Graph.trace(net, example)
    assert torch.equal(example, -torch.ones(1, 6))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
