"""A torch module as `head.npz`, the layer graph that the edge runs in plain NumPy.

The format and its ops are those of `edge_node.numpy_graph` and `edge_node.numpy_ops`. The module is traced by
torch.export, so modules and functions (`nn.ReLU`, `torch.relu`) are the same here; in-place ops are undone.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cloud_worker.build.export.numpy_ops import export_node
from cloud_worker.build.export.numpy_trace import Trace, unsupported
from schemas.errors import BundleError

FORMAT: Final = 1
INPUT: Final = "x"
_MAX_OUTPUTS: Final = 2


def export_numpy(module: nn.Module, example_input: torch.Tensor) -> bytes:
    """The bytes of `head.npz` for a module in eval mode that takes one float32 tensor with batch dimension 1.

    The module returns the cut, or (cut, logits); any tensor may be any of the shapes that its layers give.
    BatchNorm is folded into the convolution or linear layer before it, in float64; a pad with noughts is part of the
    convolution after it; what is computed from parameters alone is computed here. Equal weights give equal bytes.
    Raises BundleError naming the layer for anything that the format has no op for.
    """
    if module.training or example_input.dtype != torch.float32 or example_input.shape[:1] != (1,):
        mode = "training" if module.training else "eval"
        msg = (
            f"the module is in {mode} mode and the example is {example_input.dtype}{list(example_input.shape)}; "
            "export in eval mode with a float32 example of batch size 1"
        )
        raise BundleError(msg)
    program = _trace(module, example_input)
    trace = Trace(_constants(program))
    outputs: list[str] = []
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs:
            trace.start(node, INPUT)
        elif node.op == "call_function":
            export_node(trace, node)
        elif node.op == "output":
            outputs = _outputs(trace, node.args[0])
    graph = {
        "format": FORMAT,
        "input": INPUT,
        "shape": list(example_input.shape[1:]),
        "outputs": outputs,
        "nodes": trace.live(outputs),
    }
    return _write(graph, trace.arrays)


def _trace(module: nn.Module, example_input: torch.Tensor) -> torch.export.ExportedProgram:
    """The module's graph without in-place ops. Raises BundleError when it cannot be traced."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about torch
            program = torch.export.export(module, (example_input,))
            functional: torch.export.ExportedProgram = program.run_decompositions({})
            return functional
    except Exception as error:  # torch.export raises whatever the module's code and torch's internals raise
        reason = " ".join(str(error).split())[:300]
        kind = type(error).__name__
        msg = f"torch.export cannot trace the module ({kind}: {reason}); make its forward free of branches"
        raise BundleError(msg) from error


def _constants(program: torch.export.ExportedProgram) -> dict[str, NDArray[Any]]:
    """Parameters, buffers and constants by the name of their placeholder."""
    signature = program.graph_signature
    states = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    tensors = {name: program.state_dict.get(target, program.constants.get(target)) for name, target in states.items()}
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items() if tensor is not None}


def _outputs(trace: Trace, values: tuple[Any, ...]) -> list[str]:
    if not 1 <= len(values) <= _MAX_OUTPUTS:
        msg = f"the module returns {len(values)} tensors; return the cut, or (cut, logits)"
        raise BundleError(msg)
    for value in values:
        if value not in trace.names:
            raise unsupported(value, "an output must be computed from the input")
    return [trace.names[value] for value in values]


def _write(graph: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> bytes:
    """A stored zip with fixed times and modes: equal contents, equal bytes."""
    text = json.dumps(graph, sort_keys=True, separators=(",", ":")).encode("ascii")
    members: dict[str, NDArray[Any]] = {"graph": np.frombuffer(text, np.uint8), **arrays}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            body = io.BytesIO()
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            np.lib.format.write_array(body, little, version=(1, 0), allow_pickle=False)
            archive.writestr(info, body.getvalue())
    return file.getvalue()
