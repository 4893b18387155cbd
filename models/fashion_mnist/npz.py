"""A folded head as `head.npz`, the layer graph that `edge_node.numpy_graph` describes."""

from __future__ import annotations

import io
import json
import operator
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx, nn

if TYPE_CHECKING:
    from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLAIN: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish",
    nn.AdaptiveAvgPool2d: "global_avg_pool",
    nn.Flatten: "flatten",
}


class _Writer:
    """Collects nodes and weights while it walks the traced graph; `names` maps a traced node to its value."""

    def __init__(self, model: nn.Module) -> None:
        self.traced = fx.symbolic_trace(model)
        self.names: dict[fx.Node, str] = {}
        self.nodes: list[dict[str, Any]] = []
        self.weights: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
        self.outputs: list[str] = []

    def walk(self) -> None:
        """Raises ValueError, naming the layer, for anything that a NumPy head does not know."""
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                self.names[node] = "x"
            elif node.op == "output":
                self.outputs = [self.names[value] for value in node.args[0]]
            elif node.op == "call_function" and node.target is operator.add:
                self._put(node, {"op": "add"})
            elif node.op == "call_module":
                self._layer(node, self.traced.get_submodule(str(node.target)))
            else:
                raise _unknown(str(node))

    def _layer(self, node: fx.Node, module: nn.Module) -> None:
        if isinstance(module, nn.Identity):
            self.names[node] = self.names[node.all_input_nodes[0]]
        elif isinstance(module, nn.Conv2d) and set(module.dilation) == {1} and module.padding_mode == "zeros":
            attrs = {"stride": module.stride, "padding": module.padding, "groups": module.groups}
            self._put(node, {"op": "conv2d", "attrs": attrs, "weights": self._keep(module)})
        elif isinstance(module, nn.Linear):
            self._put(node, {"op": "linear", "weights": self._keep(module)})
        elif type(module) in _PLAIN and getattr(module, "output_size", 1) == 1:
            self._put(node, {"op": _PLAIN[type(module)]})
        else:
            raise _unknown(f"{node.target}: {module}")

    def _put(self, node: fx.Node, fields: dict[str, Any]) -> None:
        name = f"v{len(self.nodes)}"
        self.names[node] = name
        self.nodes.append({**fields, "inputs": [self.names[value] for value in node.all_input_nodes], "output": name})

    def _keep(self, module: nn.Module) -> dict[str, str]:
        """Store a layer's arrays; member name by role."""
        roles = {}
        for role, tensor in module.named_parameters():
            roles[role] = f"w{len(self.weights)}"
            self.weights[roles[role]] = tensor.detach().contiguous().numpy().astype("<f4")
        return roles


def _unknown(what: str) -> ValueError:
    msg = f"{what} is no layer of a NumPy head; see edge_node.numpy_ops for those that are"
    return ValueError(msg)


def write_npz(model: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Write a folded model for inputs of `shape` (no batch). Equal models give equal bytes."""
    writer = _Writer(model)
    writer.walk()
    graph = {"format": 1, "input": "x", "shape": shape, "outputs": writer.outputs, "nodes": writer.nodes}
    text = json.dumps(graph, separators=(",", ":")).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        members: dict[str, np.ndarray[Any, Any]] = {"graph": np.frombuffer(text, np.uint8), **writer.weights}
        for name, array in members.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0))
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), member.getvalue(), zipfile.ZIP_DEFLATED)
