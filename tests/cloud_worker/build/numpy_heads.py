"""Torch modules run as NumPy heads, for inputs of any shape."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cloud_worker.build.export.to_numpy import export_numpy
from edge_node.numpy_head import NumpyHead
from tests.edge_node.head_files import VECTOR, manifest


def head_of(module: nn.Module, shape: tuple[int, ...]) -> NumpyHead:
    """The module's head for float32 samples of that shape, without an exit."""
    with torch.inference_mode():
        cut = module(torch.zeros(1, *shape))
    fields = {**VECTOR, "sample": {"dtype": "float32", "shape": shape}, "labels": ("a", "b")}
    fields["cut"] = {"dtype": "float32", "shape": tuple(cut.shape[1:])}
    return NumpyHead(export_numpy(module, torch.zeros(1, *shape)), manifest(fields, has_exit=False))


def sample(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Noise that reaches the bends of every activation."""
    return 3 * torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def check(module: nn.Module, shape: tuple[int, ...], seed: int = 0) -> None:
    """The head gives what torch gives, within 1e-4 of the largest value."""
    head = head_of(module.eval(), shape)
    x = sample(shape, seed)
    before = x.clone()
    with torch.inference_mode():
        theirs = module(x)[0].numpy()
    ours = head.run(x[0].numpy()).cut
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * max(1, float(np.abs(theirs).max())))
    assert torch.equal(x, before)
