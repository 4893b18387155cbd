"""What a node's stats say of its early exit, as gauges, and the same in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from schemas.certificate import Certificate, Mode, promise_of

PREFIX: Final = "exit_"
_THRESHOLD: Final = "exit_threshold"
_ALPHA: Final = "exit_alpha_"
"""Followed by the mode: what the share is a share of."""
_DELTA: Final = "exit_delta"


def exit_gauges(threshold: float, certificate: Certificate | None) -> dict[str, float]:
    """From which confidence on the exit is sure, and alpha and delta where a certificate promises something."""
    if certificate is None:
        return {_THRESHOLD: threshold}
    return {_THRESHOLD: threshold, f"{_ALPHA}{certificate.mode}": certificate.alpha, _DELTA: certificate.delta}


def exit_words(gauges: Mapping[str, float]) -> str:
    """Inverse of `exit_gauges`, for people; empty where the gauges say nothing of an exit."""
    if _THRESHOLD not in gauges:
        return ""
    return f"exit {standing(f'{gauges[_THRESHOLD]:g}', _promise(gauges))}"


def standing(threshold: str, promise: str) -> str:
    """What an exit's answers are worth; an empty promise is none."""
    return f"{f'certified: {promise}' if promise else 'not certified'}; sure from {threshold} on"


def _promise(gauges: Mapping[str, float]) -> str:
    modes: tuple[Mode, ...] = get_args(Mode)
    for mode in modes:
        if f"{_ALPHA}{mode}" in gauges and _DELTA in gauges:
            return promise_of(gauges[f"{_ALPHA}{mode}"], gauges[_DELTA], mode)
    return ""
