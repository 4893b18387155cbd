"""The operating points of one tensor: which codecs at which settings, and what each costs and loses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from cloud_worker.build.codecs import fisher
from cloud_worker.build.codecs.affine import affine_config
from cloud_worker.build.codecs.fit_transform import fit
from cloud_worker.build.measure.data import Data, Settings
from cloud_worker.build.measure.levels import levels_for
from cloud_worker.build.measure.net import Reference, Stopwatch
from cloud_worker.build.measure.profile_file import CodingPoint, Quality
from cloud_worker.build.point_leakage import Dealt, point_leakage
from schemas.codecs import Codec, Config, Tables, open_codec
from schemas.errors import ConfigError
from schemas.leakage import Leakage
from schemas.tensor import Array, FloatArray, TensorSpec

AFFINE_BITS: Final = (8, 6, 4)
_MAP_AXES: Final = 3
_MOST_DRAWS: Final = 8
_MOST_GRADIENTS: Final = 1 << 26
"""Values: fewer draws where the tensor is large, so that fitting stays within 2 GB."""
_TIMED: Final = 16

Answer = Callable[[Array], FloatArray]
"""Logits float32 (M, classes) of tensors as they arrive (M, ...)."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensors:
    """What is shipped, and what the far end makes of it."""

    calibration: Array
    """(N, ...)"""
    held_out: Array
    """(M, ...)"""
    answer: Answer


def fit_tables(tail: nn.Module, activations: FloatArray, seed: int = 0) -> Tables:
    """Tables of codec `transform` for a cut, float32 (N, C, H, W): the same for the same calibration samples and seed.

    Raises ConfigError where the tail has no gradient, and as `fit` does.
    """
    values = torch.from_numpy(activations)
    draws = max(1, min(_MOST_DRAWS, _MOST_GRADIENTS // activations.size))
    try:
        felt = fisher.gradients(tail, values, draws, seed)
    except RuntimeError as error:
        msg = f"the tail has no gradient ({' '.join(str(error).split())[:200]}); ship this cut by codec affine"
        raise ConfigError(msg) from None
    return fit(values, felt)


class Points:
    """Measures operating points of one tensor after the other."""

    def __init__(self, data: Data, reference: Reference, settings: Settings) -> None:
        self._data, self._reference, self._settings = data, reference, settings
        self._clock = Stopwatch.of(settings)

    def of_cut(self, spec: TensorSpec, tail: nn.Module, tensors: Tensors) -> tuple[CodingPoint, ...]:
        """`transform` for feature maps that it can be fitted to, `affine` and `minmax_u8` for everything else."""
        if len(spec.shape) == _MAP_AXES:
            try:
                return self._transform(spec, fit_tables(tail, tensors.calibration, self._settings.seed), tensors)
            except ConfigError:
                return self._plain(spec, tensors)
        return self._plain(spec, tensors)

    def of_input(self, spec: TensorSpec, tensors: Tensors) -> tuple[CodingPoint, ...]:
        """Codec `input`: image files for images, zstd for everything else. What is not installed is left out."""
        configs: list[dict[str, Any]] = [{"format": "zstd"}]
        if spec.dtype == "uint8":
            lossy = self._settings.qualities.items()
            files = [{"format": name, "quality": quality} for name, levels in lossy for quality in levels]
            configs = [{"format": "webp"}, *files]
        opened = [(config, codec) for config in configs if (codec := _opened(spec, config)) is not None]
        if not opened:
            msg = f"no codec of the input works here for {spec}; pip install 'splitbus[build]'"
            raise ConfigError(msg)
        return tuple(self._point(codec, config, tensors) for config, codec in opened)

    def _plain(self, spec: TensorSpec, tensors: Tensors) -> tuple[CodingPoint, ...]:
        configs: list[tuple[str, Config]] = [
            ("affine", affine_config(tensors.calibration, bits)) for bits in AFFINE_BITS
        ]
        configs.append(("minmax_u8", {}))
        return tuple(self._point(open_codec(name, spec, config), config, tensors) for name, config in configs)

    def _transform(self, spec: TensorSpec, tables: Tables, tensors: Tensors) -> tuple[CodingPoint, ...]:
        def opened(level: int) -> Codec:
            return open_codec("transform", spec, {"level": level}, tables)

        def kl_at(level: int) -> float:
            quality = self._quality(opened(level), tensors)[0]
            return quality.kl_nats or 0.0

        levels = levels_for(self._settings.targets, kl_at)
        return tuple(self._point(opened(level), {"level": level}, tensors) for level in levels)

    def _quality(self, codec: Codec, tensors: Tensors) -> tuple[Quality, list[bytes]]:
        payloads = [codec.encode(each) for each in tensors.held_out]
        arrived = np.stack([codec.decode(each) for each in payloads])
        return self._reference.judge(tensors.answer(arrived)), payloads

    def _point(self, codec: Codec, config: Config, tensors: Tensors) -> CodingPoint:
        quality, payloads = self._quality(codec, tensors)
        sizes = [len(payload) for payload in payloads]
        timed = list(tensors.held_out[:_TIMED])
        return CodingPoint(
            codec=codec.id,
            config=dict(config),
            bytes_mean=float(np.mean(sizes)),
            bytes_p95=float(np.percentile(sizes, 95)),
            encode_ms=self._clock.time(codec.encode, timed).p50_ms,
            decode_ms=self._clock.time(codec.decode, payloads[:_TIMED]).p50_ms,
            quality=quality,
            leakage=self._leakage(codec, tensors),
        )

    def _leakage(self, codec: Codec, tensors: Tensors) -> Leakage | None:
        """None where it is to be left out, or the samples are too few to measure anything."""
        if not self._settings.leakage:
            return None
        shipped = Dealt(tensors.calibration, tensors.held_out)
        return point_leakage(codec, shipped, self._data.samples, seed=self._settings.seed)


def _opened(spec: TensorSpec, config: dict[str, Any]) -> Codec | None:
    """None where a library that the format needs is not installed."""
    try:
        codec = open_codec("input", spec, config)
        codec.encode(np.zeros(spec.shape, spec.dtype))
    except ConfigError:
        return None
    return codec
