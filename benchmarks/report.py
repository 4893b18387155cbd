"""What every benchmark returns: rows, and targets with the figure beside them; one JSON object on stdout."""

from __future__ import annotations

import importlib.metadata
import json
import math
import operator
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

_COMPARE = {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt}
_PACKAGES = (
    *("numpy", "torch", "aiomqtt", "paho-mqtt", "ai-edge-litert", "tflite-runtime", "iotcore", "pydantic"),
    *("pillow", "zstandard"),
)
_IMAGE_LIBRARIES = ("libjpeg_turbo", "webp", "avif", "zlib")


@dataclass(frozen=True, slots=True)
class Target:
    """An acceptance figure: the value measured, and what it must be."""

    name: str
    value: float
    comparison: Literal["<=", ">=", "==", "<"]
    target: float

    @property
    def ok(self) -> bool:
        """Whether the value is as it must be; NaN never is."""
        return bool(_COMPARE[self.comparison](self.value, self.target))

    def as_json(self) -> dict[str, Any]:
        """Name, value, target, ok."""
        return {"name": self.name, "value": self.value, "target": f"{self.comparison} {self.target:g}", "ok": self.ok}


@dataclass(slots=True)
class Report:
    """Rows of one benchmark, and whether it hit its targets."""

    benchmark: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    show: Callable[[], None] | None = None
    """Prints it for people where that is more than rows, targets and notes."""

    def as_json(self) -> dict[str, Any]:
        """The whole report as one JSON object."""
        return {
            "benchmark": self.benchmark,
            "versions": versions(),
            "machine": machine(),
            "rows": self.rows,
            "targets": [target.as_json() for target in self.targets],
            "notes": self.notes,
        }

    def print(self, *, as_json: bool) -> None:
        """One JSON object on stdout, or the same for people."""
        if as_json:
            sys.stdout.write(json.dumps(_finite(self.as_json()), allow_nan=False) + "\n")
            return
        if self.show is not None:
            self.show()
            return
        print(f"{self.benchmark}")
        for row in self.rows:
            print("  " + "  ".join(f"{key}={_short(value)}" for key, value in row.items()))
        for target in self.targets:
            verdict = "ok    " if target.ok else "MISSED"
            print(f"  {verdict} {target.name}: {_short(target.value)} (target {target.comparison} {target.target:g})")
        for note in self.notes:
            print(f"  note: {note}")


@dataclass(frozen=True, slots=True)
class Quantiles:
    """p50, p95 and p99 of one sample."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantiles:
        """Quantiles of the values; NaN when there are none."""
        if not values:
            return cls(float("nan"), float("nan"), float("nan"))
        p50, p95, p99 = np.percentile(np.asarray(values, np.float64), (50, 95, 99))
        return cls(float(p50), float(p95), float(p99))

    def fields(self, unit: str) -> dict[str, float]:
        """As columns: `p50_ms` and so on."""
        return {f"{name}_{unit}": value for name, value in asdict(self).items()}


def versions() -> dict[str, str]:
    """Python and the packages that matter for the figures, where they are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | _image_libraries()


def _image_libraries() -> dict[str, str]:
    """What Pillow writes files with, where it is installed."""
    try:
        from PIL import features  # noqa: PLC0415 - only some benchmarks need it
    except ImportError:
        return {}
    known = {*features.modules, *features.codecs, *features.features}
    found = {name: features.version(name) for name in _IMAGE_LIBRARIES if name in known}
    return {name: version for name, version in found.items() if version}


def machine() -> dict[str, Any]:
    """Processor family and number of cores."""
    return {"arch": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}


def _finite(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
