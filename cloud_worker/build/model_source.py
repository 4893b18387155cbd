"""The model that `cloud-worker build` is told to take: found by name, its weights read without running a pickle."""

from __future__ import annotations

import difflib
import importlib
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from schemas.errors import ConfigError

_SHOWN = 5


def load_model(name: str, weights: Path | None = None) -> nn.Module:
    """The module at `PACKAGE.MODULE:NAME`, or what the function of that name returns, in eval mode without gradients.

    The current folder is on the path. Importing a model runs its code. `weights` is a state dict that
    `torch.save` wrote, read with `weights_only`. Raises ConfigError, naming what is missing or does not fit.
    """
    found = _made(_looked_up(name), name)
    if weights is not None:
        _fill(found, weights)
    if any(isinstance(each, UninitializedParameter) for each in found.parameters()):
        msg = f"--model {name} has layers whose sizes are not known yet; run it once on an example before you return it"
        raise ConfigError(msg)
    model: nn.Module = found.eval().requires_grad_(requires_grad=False)
    return model


def _looked_up(name: str) -> Any:
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        msg = f"--model {name!r} is not PACKAGE.MODULE:NAME; write it as in my_models.nets:make_net"
        raise ConfigError(msg)
    with _current_folder():
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            msg = f"--model {name}: no module is called {error.name}; run the command in the folder that has it"
            raise ConfigError(msg) from None
        except (Exception, SystemExit) as error:  # whatever the model's code raises
            msg = f"--model {name}: importing {module_name} fails ({_reason(error)}); make it importable first"
            raise ConfigError(msg) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [each for each, value in vars(found).items() if callable(value) and not each.startswith("_")]
            near = difflib.get_close_matches(part, names, n=_SHOWN) or names[-_SHOWN:]
            shown = ", ".join(near) or "nothing that can be called"
            msg = f"--model {name}: {module_name} has no {attribute}; it has {shown}"
            raise ConfigError(msg)
        found = getattr(found, part)
    return found


def _made(found: Any, name: str) -> nn.Module:
    if not isinstance(found, nn.Module) and callable(found):
        with _current_folder():
            try:
                found = found()
            except (Exception, SystemExit) as error:  # whatever the model's code raises
                msg = f"--model {name}: calling it fails ({_reason(error)}); name a function that takes no arguments"
                raise ConfigError(msg) from error
    if not isinstance(found, nn.Module):
        msg = f"--model {name} is a {type(found).__name__}; name a torch module, or a function that returns one"
        raise ConfigError(msg)
    return found


def _fill(model: nn.Module, path: Path) -> None:
    state = _read_state(path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        msg = f"--weights {path}: they do not fit the model ({' '.join(lines[:2])[:300]}); give those of this model"
        raise ConfigError(msg) from None


def _read_state(path: Path) -> Mapping[str, Tensor]:
    remedy = "give a state dict: torch.save(model.state_dict(), FILE)"
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        msg = f"--weights {path} cannot be read: {error.strerror or error}; {remedy}"
        raise ConfigError(msg) from None
    except pickle.UnpicklingError:
        msg = f"--weights {path} is no file of weights (it holds more than tensors); {remedy}"
        raise ConfigError(msg) from None
    except (EOFError, RuntimeError, ValueError) as error:
        msg = f"--weights {path} is no file of weights ({_reason(error)}); {remedy}"
        raise ConfigError(msg) from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        msg = f"--weights {path} holds no state dict; {remedy}"
        raise ConfigError(msg)
    return state


@contextmanager
def _current_folder() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
