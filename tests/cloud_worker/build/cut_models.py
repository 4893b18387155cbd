"""Small models of every kind that is cut: skips, several tensors across, tokens, signals, integers inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloud_worker.build.cut.cuts import Graph


class Net(nn.Module):
    """A module from a function of its input, with named children."""

    def __init__(self, function: Callable[[Any, Tensor], object], **children: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


class Residual(nn.Module):
    """ResNet's basic block; one ReLU is called twice, in place."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.down = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out.add_(self.down(x)))


def resnet() -> nn.Module:
    stem = (nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
    top = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(16, 10))
    return nn.Sequential(*stem, Residual(8, 8, 1), Residual(8, 16, 2), *top)


class UNet(nn.Module):
    """Two skips across, of different resolutions; a decoder of transposed convolution and interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = self._block(3, 4)
        self.down = self._block(4, 8)
        self.bottom = self._block(8, 8)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.join = self._block(16, 4)
        self.leave = self._block(8, 2)

    @staticmethod
    def _block(cin: int, cout: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.GroupNorm(2, cout), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        first = self.enter(x)
        second = self.down(functional.max_pool2d(first, 2))
        third = self.bottom(functional.max_pool2d(second, 2))
        up = self.join(torch.cat([self.up(third), second], 1))
        out: Tensor = self.leave(torch.cat([functional.interpolate(up, size=first.shape[2:]), first], 1))
        return out


class VisionTransformer(nn.Module):
    """Patches, class token, positions by an embedding of constant numbers; gives its tokens as well."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Embedding(17, width)
        layer = nn.TransformerEncoderLayer(width, 4, 32, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.top = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], dim=1)
        tokens = self.encoder(tokens + self.position(torch.arange(tokens.shape[1])))
        return self.top(tokens[:, 0]), tokens


class Attention(nn.Module):
    """Written out: query, key and value are parts of one tensor, heads are folded into the batch."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        count, length, width = x.shape
        q, k, v = (self._fold(part) for part in self.qkv(self.norm(x)).chunk(3, dim=-1))
        weights = torch.bmm(q, k.transpose(1, 2)).mul(width**-0.5).softmax(-1)
        mixed = torch.einsum("nlm,nmd->nld", weights, v).view(count, self.heads, length, -1)
        return x + self.out(mixed.transpose(1, 2).reshape(count, length, width))

    def _fold(self, x: Tensor) -> Tensor:
        count, length, width = x.shape
        parts = x.view(count, length, self.heads, width // self.heads).transpose(1, 2)
        return parts.reshape(count * self.heads, length, -1)


def token_encoder() -> nn.Module:
    """Float features (N, 10, 6) -> (N, 3)."""
    return Net(
        lambda net, x: net.top(net.layers(net.embed(x)).mean(1)),
        embed=nn.Linear(6, 16),
        layers=nn.Sequential(Attention(16, 4), Attention(16, 2)),
        top=nn.Linear(16, 3),
    )


def signal_net() -> nn.Module:
    """A signal (N, 2, 64) -> (N, 4)."""
    return nn.Sequential(
        nn.Conv1d(2, 8, 7, stride=2, padding=3),
        nn.BatchNorm1d(8),
        nn.GELU(),
        nn.Conv1d(8, 8, 5, padding=4, dilation=2, groups=8),
        nn.Conv1d(8, 16, 1),
        nn.LeakyReLU(),
        nn.AvgPool1d(4),
        nn.Flatten(),
        nn.Linear(128, 4),
    )


def recurrent_net() -> nn.Module:
    """A signal (N, 12, 3) -> (N, 4); the state's zeros are made for each batch."""
    return Net(
        lambda net, x: net.top(net.lstm(net.enter(x))[0][:, -1]),
        enter=nn.Linear(3, 6),
        lstm=nn.LSTM(6, 8, batch_first=True),
        top=nn.Linear(8, 4),
    )


def integer_net() -> nn.Module:
    """A path through an embedding of an argmax, beside one of floats."""

    def forward(net: Any, x: Tensor) -> Tensor:
        features = net.enter(x)
        index = features.argmax(-1)
        out: Tensor = net.top(net.table(index) + net.other(features) * (features > 0))
        return out

    parts = {"enter": nn.Linear(6, 8), "table": nn.Embedding(8, 8), "other": nn.Linear(8, 8), "top": nn.Linear(8, 3)}
    return Net(forward, **parts)


def channels_last_net() -> nn.Module:
    """Values lie in memory channel by channel of each pixel."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Sigmoid(), nn.Conv2d(4, 2, 1))
    return net.to(memory_format=torch.channels_last)


def sizes_net() -> nn.Module:
    """Sizes that follow from the batch size are needed on both sides of a cut; one weight has two names."""

    def forward(net: Any, x: Tensor) -> Tensor:
        count = x.shape[0]
        x = net.enter(x) + torch.ones(count + 1, 6)[1:]
        x = net.other(x.repeat(2, 1).view(count * 12)).view(2, count, 6).sum(0)
        return net.leave(x + torch.zeros_like(x)) / count

    enter, leave = nn.Linear(6, 6), nn.Linear(6, 6)
    leave.weight = enter.weight
    return Net(forward, enter=enter, other=nn.Tanh(), leave=leave)


def branch_net() -> nn.Module:
    """torch.cond on a value, and a part without gradients."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.enter(x)
        with torch.no_grad():
            x = x * 2
        x = torch.cond(x.sum() > 0, torch.sin, torch.cos, (x.relu(),))
        return net.leave(x).relu()

    return Net(forward, enter=nn.Linear(6, 6), leave=nn.Linear(6, 3))


def settle(module: nn.Module) -> nn.Module:
    """In eval mode, with BatchNorm statistics that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            norm.running_mean = torch.randn(norm.num_features, generator=generator)
            norm.running_var = torch.rand(norm.num_features, generator=generator) + 0.5
    return module.eval()


@cache
def traced(make: Callable[[], nn.Module], *shape: int) -> tuple[nn.Module, Graph]:
    """A model and its graph, the same for all tests."""
    torch.manual_seed(0)
    module = settle(make())
    return module, Graph.trace(module, torch.zeros(1, *shape))
