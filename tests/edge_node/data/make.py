"""Make the heads in this folder: python -m tests.edge_node.data.make, where torch and litert-torch are installed.

For each net NAME.tflite and NAME.npz of the same weights, and in expected.npz a few inputs with torch's outputs;
small.int8.tflite is small.tflite with int8 weights and activations, calibrated on these inputs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cloud_worker.build.export.to_numpy import export_numpy
from cloud_worker.build.export.to_tflite import export_tflite
from cloud_worker.build.export.to_tflite_int8 import quantised

HERE = Path(__file__).parent
COUNT = 4


class Small(nn.Module):
    """(1, 1, 8, 8) -> cut (1, 4, 4, 4) and four logits; one of every kind of layer that a head has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1, groups=4), nn.BatchNorm2d(4), nn.Hardswish())
        self.exit = nn.Sequential(
            nn.Conv2d(4, 6, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
        )
        with torch.no_grad():
            for norm in (self.stem[1], self.depthwise[1]):
                norm.running_mean.uniform_(-0.5, 0.5)
                norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = self.stem(x)
        cut = low + self.depthwise(low)
        return cut, self.exit(cut)


class Plain(Small):
    """Without an exit."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.stem(x)


class Twins(nn.Module):
    """(1, 4) -> cut (1, 3) and three logits: one shape, and the logits are computed first."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.exit = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.exit(x)
        return torch.relu(self.cut(x)), logits


class Integers(Twins):
    """Its cut is int32, which no bundle may have."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cut, logits = super().forward(x)
        return cut.to(torch.int32), logits


def main() -> None:
    torch.manual_seed(0)
    nets = {"small": (Small(), (1, 8, 8)), "plain": (Plain(), (1, 8, 8)), "twins": (Twins(), (4,))}
    expected: dict[str, np.ndarray] = {}
    for name, (net, shape) in nets.items():
        net.eval()
        inputs = torch.randn(COUNT, *shape)
        with torch.no_grad():
            outputs = net(inputs)
        (HERE / f"{name}.tflite").write_bytes(export_tflite(net, inputs[:1]))
        (HERE / f"{name}.npz").write_bytes(export_numpy(net, inputs[:1]))
        expected[f"{name}_inputs"] = inputs.numpy()
        for key, value in zip(("cut", "logits"), outputs if isinstance(outputs, tuple) else (outputs,), strict=False):
            expected[f"{name}_{key}"] = value.numpy()
    (HERE / "integers.tflite").write_bytes(export_tflite(Integers().eval(), torch.zeros(1, 4)))
    (HERE / "small.int8.tflite").write_bytes(quantised((HERE / "small.tflite").read_bytes(), expected["small_inputs"]))
    np.savez(HERE / "expected.npz", **expected)


if __name__ == "__main__":
    main()
