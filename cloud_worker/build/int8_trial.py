"""What an int8 head costs the answers: through the codec and the tail, beside the float head."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from cloud_worker.build.codecs.rates import kl_nats
from cloud_worker.build.export.agree import MismatchError
from schemas.bundle import HEAD_INT8, OperatingPoint

MOST_LOST: Final = 0.02
"""Of the share of samples that are answered as the unsplit model does; one sample at least is allowed."""
MOST_KL: Final = 0.1
_REMEDY: Final = "build without --int8, or give more samples like those it will see"


class Int8Tried(NamedTuple):
    """An int8 head at one operating point, on the held-out samples."""

    point: OperatingPoint
    kl_nats: float
    """Mean KL divergence of its answers from those of the float head, through the same codec and tail."""
    agreement: float
    """Share of the samples whose class is the unsplit model's."""
    float_agreement: float
    """The same share with the float head."""


def compare_int8(point: OperatingPoint, whole: Tensor, in_float: Tensor, in_int8: Tensor) -> Int8Tried:
    """Of logits (N, classes): the unsplit model's, and the tail's behind either head.

    Raises MismatchError, with both figures, where the int8 head answers too differently.
    """
    divergence = kl_nats(in_float, in_int8)
    agreement, float_agreement = (_same(each, whole) for each in (in_int8, in_float))
    allowed = max(MOST_LOST, 1 / len(whole))
    if not divergence <= MOST_KL or float_agreement - agreement > allowed + torch.finfo(torch.float32).eps:
        msg = (
            f"{HEAD_INT8} adds KL {divergence:.4f} and answers {agreement:.1%} as the unsplit model does, the float "
            f"head {float_agreement:.1%}; allowed are KL {MOST_KL:g} and {allowed:.1%} less; {_REMEDY}"
        )
        raise MismatchError(msg)
    return Int8Tried(point, divergence, agreement, float_agreement)


def _same(found: Tensor, wanted: Tensor) -> float:
    return float((found.argmax(1) == wanted.argmax(1)).double().mean())
