"""A torch module as a functional graph whose batch size stays open, or the reason why it cannot be one."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.export.graph_signature import OutputKind

from schemas.errors import BundleError, ConfigError

TRACED_BATCH: Final = 3
"""Samples in the example that is traced: with one, torch.export takes the batch size for a constant."""
_SHOWN: Final = 300


def trace(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """The exported program of a module in eval mode, without in-place ops, for any batch size.

    Raises ConfigError for an example that is not a float32 tensor with batch dimension 1 or that the module does not
    take, BundleError for a module that cannot be cut: it is in training mode, takes several inputs, draws random
    numbers, writes its buffers, branches on values, fixes its batch size or returns no tensor first.
    """
    _check_example(example)
    _check_module(module)
    with _inference():
        _check_run(module, example)
        program = _export(module, example)
    written = sorted({str(spec.target) for spec in _outputs(program, OutputKind.BUFFER_MUTATION)})
    if written:
        msg = (
            f"the module's forward writes its buffers {', '.join(written)}; a cut model keeps no state between samples"
        )
        raise BundleError(msg)
    return program


def output_name(program: torch.export.ExportedProgram) -> str:
    """Name of the value that the module returns, or that is the first of its tuple."""
    return str(_outputs(program, OutputKind.USER_OUTPUT)[0].arg.name)


def _outputs(program: torch.export.ExportedProgram, kind: OutputKind) -> list[Any]:
    return [spec for spec in program.graph_signature.output_specs if spec.kind == kind]


def _check_example(example: Tensor) -> None:
    if not isinstance(example, Tensor):
        msg = f"the example is a {type(example).__name__}; give one float32 tensor of one sample, (1, ...)"
        raise ConfigError(msg)
    if example.dtype != torch.float32 or example.shape[:1] != (1,) or example.numel() == 0 or example.ndim == 1:
        dtype = str(example.dtype).removeprefix("torch.")
        msg = f"the example is {dtype}{list(example.shape)}; give one float32 tensor of one sample, (1, ...)"
        raise ConfigError(msg)


def _check_module(module: nn.Module) -> None:
    training = [name or "the module" for name, part in module.named_modules() if part.training]
    if training:
        msg = f"{training[0]} is in training mode; call eval() on the module before it is cut"
        raise BundleError(msg)
    parameters = inspect.signature(module.forward).parameters.values()
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each.name for each in parameters if each.kind in places and each.default is each.empty]
    if len(needed) > 1:
        msg = f"the module takes {len(needed)} inputs ({', '.join(needed)}); wrap it in one that takes one tensor"
        raise BundleError(msg)


def _check_run(module: nn.Module, example: Tensor) -> None:
    """One sample through the module itself: that shows what a trace hides."""
    before = torch.get_rng_state()
    try:
        result = module(example.clone())
    except Exception as error:  # whatever the module's code raises
        msg = (
            f"the module does not take the example of {list(example.shape)} ({_reason(error)}); give one that it takes"
        )
        raise ConfigError(msg) from error
    drew = not torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    if drew:
        msg = "the module draws random numbers in eval mode; take dropout and noise out, or make them follow eval()"
        raise BundleError(msg)
    first = result[0] if isinstance(result, (tuple, list)) and result else result
    if not isinstance(first, Tensor):
        msg = f"the module returns {type(first).__name__}; return a tensor, or a tuple that begins with it"
        raise BundleError(msg)


def _export(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    several = example.expand(TRACED_BATCH, *example.shape[1:]).clone()
    try:
        return _functional(module, several, ({0: torch.export.Dim("batch")},))
    except Exception as error:  # torch.export raises whatever the module's code and torch's internals raise
        raise _explained(module, example, error) from error


def _explained(module: nn.Module, example: Tensor, error: Exception) -> BundleError:
    try:
        _functional(module, example, None)
    except Exception:  # noqa: BLE001 - as above; the first error tells more
        remedy = "make its forward free of branches on values"
        return BundleError(f"torch.export cannot trace the module ({_reason(error)}); {remedy}")
    remedy = "take it from the input, as in x.shape[0] or flatten(1)"
    return BundleError(f"the module's forward works for one batch size only ({_reason(error)}); {remedy}")


def _functional(module: nn.Module, example: Tensor, dynamic: Any) -> torch.export.ExportedProgram:
    program = torch.export.export(module, (example,), dynamic_shapes=dynamic)
    functional: torch.export.ExportedProgram = program.run_decompositions({})
    return functional


@contextmanager
def _inference() -> Iterator[None]:
    """No gradients, no warnings of torch about torch, and attention layer by layer instead of as one opaque op."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]}"
