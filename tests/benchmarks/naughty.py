"""A codec that does all that a decoder must not do; in a module of its own, so that the children load no torch."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from benchmarks.fuzz_subjects import Subject
from schemas.errors import DecodeError
from schemas.tensor import TensorSpec

SPEC = TensorSpec(dtype="uint8", shape=(8,))
WHOLE = b"abcdefgh"


class Naughty:
    id = "naughty"
    needs_tables = False
    max_payload = 8

    def __init__(self, spec: TensorSpec = SPEC, config: Any = None, tables: Any = None) -> None:
        self.given = spec, config, tables

    def encode(self, array: Any) -> bytes:
        return bytes(array)

    def decode(self, payload: bytes) -> Any:
        match payload:
            case b"ab":
                os._exit(7)
            case b"abc":
                threading.Event().wait()
            case b"abcd":
                msg = "no place for this"
                raise ValueError(msg)
            case b"abcde":
                return np.zeros(9, np.uint8)
            case b"abcdef":
                return np.zeros(1 << 20, np.uint8)[: SPEC.elements]
            case b"abcdefg":
                raise DecodeError
        return np.zeros(SPEC.elements, np.uint8)


def subjects() -> list[Subject]:
    return [Subject("well behaved", Naughty(), SPEC, 1), Subject("naughty", Naughty(), SPEC, 1)]


def ends_at_once() -> list[Subject]:
    os._exit(3)
