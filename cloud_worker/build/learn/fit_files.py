"""The two files of a fit's folder: `last.pt`, from which it goes on, and `fitted.pt`, what came of it.

Both are dicts of tensors and plain values, written by torch.save and read with `weights_only=True`: no code is loaded.
Each says what it is of, so that no fit is taken for another one's.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from cloud_worker.build.cut.cuts import Cut, Graph
from cloud_worker.build.export.freeze import weights_digest
from cloud_worker.build.learn.pair import Pair, classes_of
from cloud_worker.build.learn.settings import LearnSettings
from schemas.errors import ConfigError

LAST: Final = "last.pt"
FITTED: Final = "fitted.pt"
FORMAT: Final = 1
_REMEDY: Final = "give another folder, or remove it"
Content = dict[str, Any]


def structure(graph: Graph, cut: Cut, teacher: str, settings: LearnSettings) -> Content:
    """What two fits must share for one to stand for the other, by names for messages.

    `teacher` is the `weights_digest` of the unsplit model.
    """
    return {
        "format": FORMAT,
        "model": teacher,
        "cut": f"{cut.index} after {cut.name}",
        "shape of the cut": list(cut.spec.shape) if cut.spec else [],
        "classes": classes_of(graph),
        "channels": settings.channels,
        "tokens": settings.tokens,
    }


def save(path: Path, content: object) -> None:
    """torch.save through a temporary file beside `path`: whatever happens, the old file is whole or the new one is.

    Raises OSError with the path where it cannot be written; the temporary file is removed then.
    """
    body = io.BytesIO()
    torch.save(content, body)
    aside = path.with_name(f".{path.name}.part")
    try:
        with aside.open("wb") as file:
            file.write(body.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def read(path: Path) -> Content:
    """The dict in a file that `save` wrote. Raises ConfigError where it cannot be read, is damaged or no dict."""
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}; {_REMEDY}"
        raise ConfigError(msg) from None
    except pickle.UnpicklingError:
        raise damaged(path, TypeError("it holds more than tensors and plain values")) from None
    except (EOFError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise damaged(path, error) from None
    if not isinstance(found, dict):
        raise damaged(path, TypeError(f"it holds {type(found).__name__}"))
    return found


def check_same(path: Path, found: object, wanted: Mapping[str, object]) -> None:
    """Raises ConfigError that names what is not as wanted."""
    if not isinstance(found, dict):
        raise damaged(path, TypeError("it does not say what it is of"))
    other = [name for name, value in wanted.items() if name not in found or found[name] != value]
    if other:
        msg = f"{path} is a fit of other {', '.join(other)}; {_REMEDY}"
        raise ConfigError(msg)


def write_fitted(path: Path, pair: Pair, of: Content, settings: LearnSettings, marks: Tensor) -> None:
    """The weights of a pair, what it is a fit `of` (see `structure`), how and from what it was learnt. Raises OSError.

    `marks` are those of `LearnData.marks`.
    """
    states = {"head": pair.head.state_dict(), "tail": pair.tail.state_dict()}
    weights = weights_digest(head=pair.head, tail=pair.tail)
    save(path, {"of": of, "settings": settings.plain(), "weights": weights, "marks": marks, **states})


def marks_in(path: Path) -> Tensor:
    """Of the samples that the pair in `path` was learnt from; none where it does not say. Raises as `read`."""
    found = read(path).get("marks")
    return found if isinstance(found, Tensor) and found.dtype == torch.int64 else torch.empty(0, dtype=torch.int64)


def check_unseen(path: Path, unseen: Tensor) -> None:
    """Raises ConfigError where the pair in `path` was learnt from samples of these marks; else as `read`.

    What calibrates, certifies and tries an exit must not have trained it: no promise would hold, and no figure.
    """
    count = int(torch.isin(unseen, marks_in(path)).sum())
    if count:
        fact = f"{path} was learnt from {count} of the samples that would calibrate and try it"
        msg = f"{fact}; take them out of --samples, or learn anew in another --fit folder"
        raise ConfigError(msg)


def load_fitted(path: Path, pair: Pair, of: Content | None) -> LearnSettings:
    """Fill a pair with the weights in `path`; returns how they were learnt.

    Raises ConfigError for a damaged file, for weights of another structure and, unless `of` is None, for a fit of
    something else. The pair may be half filled then.
    """
    content = read(path)
    try:
        if of is not None:
            check_same(path, content["of"], of)
        pair.head.load_state_dict(content["head"])
        pair.tail.load_state_dict(content["tail"])
        whole = weights_digest(head=pair.head, tail=pair.tail) == content["weights"]
        settings = LearnSettings(**content["settings"])
    except (LookupError, TypeError, ValueError) as error:
        raise damaged(path, error) from None
    except RuntimeError as error:
        msg = f"{path} holds weights of another structure ({_short(error)}); give one of the same cut and channels"
        raise ConfigError(msg) from None
    if not whole:
        raise damaged(path, ValueError("its weights are not those of its digest"))
    return settings


def damaged(path: Path, error: Exception) -> ConfigError:
    """The error to raise for a file that is not what was written."""
    return ConfigError(f"{path} is damaged or no file of a fit ({type(error).__name__}: {_short(error)}); {_REMEDY}")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
