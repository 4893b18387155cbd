"""Operating points of a cut, and of the input: rates by what they cost at the model's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cloud_worker.build.codecs import fit_bottleneck, fit_transform
from cloud_worker.build.codecs.affine import affine_config
from cloud_worker.build.codecs.fisher import gradients
from schemas.bundle import TABLES
from schemas.codecs import Codec, Config, Tables, open_codec
from schemas.codecs.transform import FINEST
from schemas.errors import ConfigError
from schemas.tensor import Array, TensorSpec
from schemas.wire import MAX_FRAME_BYTES

WANTED: Final = (0.01, 0.05, 0.2)
"""What each rate stays within on calibration samples where nothing else is said; see `harm`."""
_LEVELS: Final = tuple(range(FINEST, 25))
_HALF_OCTAVES: Final = tuple(range(-16, 17))
_APART: Final = 2
_TRIED, _TRIED_SMALL, _SMALL = 64, 256, 1024
"""Calibration samples on which rates are chosen; more where a sample has no more values than that."""
_MOST_GRADIENTS: Final = 1 << 25
_MOST_DRAWS: Final = 8
_BATCH: Final = 32
_AXES: Final = 3
_AFFINE_BITS: Final = 4
LEVEL_TABLES: Final = "bottleneck.tables"
_FRAME_BEYOND: Final = 128
"""Room in a frame for what is not the tensor."""


_Row = tuple[str, dict[str, Any], str | None]
"""Codec, its configuration, the file of its tables."""


class Rates(NamedTuple):
    """What the manifest says of the points, best first and without ids, and the codec tables that they name."""

    points: list[dict[str, Any]]
    tables: dict[str, Tables]
    left_out: list[str]
    """Points that no frame can carry, and a codec that cannot be fitted, in words."""


def cut_rates(
    tail: nn.Module,
    cuts: Tensor,
    limits: Sequence[float] = WANTED,
    *,
    wanted: tuple[str, Config] | None = None,
    baselines: bool = False,
) -> Rates:
    """A rate for each limit of a cut, float32 (N, ...), or more, and `minmax_u8`.

    (C, H, W) travels through codec `transform`; anything else, and what that cannot be fitted to, through `bottleneck`,
    its steps by what the output feels of each channel. `wanted`, a codec and its configuration that a plan has chosen,
    is among them where it is `transform` or `affine`. `baselines` of (C, H, W): also `bottleneck` and `affine`. Raises
    ConfigError where the output does not depend on the cut, or where no frame carries any of them.
    """
    spec = TensorSpec(dtype="float32", shape=tuple(cuts.shape[1:]))
    felt = _gradients(tail, cuts)
    fitted, tried = cuts[: len(felt)], cuts[: _TRIED_SMALL if cuts[0].numel() <= _SMALL else _TRIED]
    rows: list[_Row] = []
    tables: dict[str, Tables] = {}
    left_out: list[str] = []
    is_map = len(spec.shape) == _AXES
    if is_map:
        try:
            fit = fit_transform.fit(fitted, felt)
            rows = [("transform", config, TABLES) for config in _levels(tail, tried, fit, limits, wanted)]
            tables[TABLES] = fit
        except ConfigError as error:
            is_map, left_out = False, [str(error)]
    if baselines or not is_map:
        most = limits[len(limits) // 2 :][:1] if is_map else limits
        steps = _steps(tail, tried, fitted, felt, most)
        file = LEVEL_TABLES if is_map else TABLES
        tables[file] = fit_bottleneck.fit(fitted.numpy(), steps)
        rows += [("bottleneck", {"rate": rate}, file) for rate in range(len(steps))]
    if baselines:
        rows.append(("affine", affine_config(fitted.numpy(), _AFFINE_BITS), None))
    if wanted is not None and wanted[0] == "affine":
        rows.append(("affine", dict(wanted[1]), None))
    found = _points("tail", spec, [*rows, ("minmax_u8", {}, None)], tried.numpy(), tables)
    if not found.points:
        msg = f"a cut of {spec} makes no frame within {MAX_FRAME_BYTES} bytes at any rate; cut where fewer values cross"
        raise ConfigError(msg)
    return found._replace(left_out=[*left_out, *found.left_out])


def input_rates(spec: TensorSpec, samples: Array) -> Rates:
    """Ways to send the whole sample: image files where it is an image, Zstandard otherwise."""
    configs: list[dict[str, Any]] = [{"format": "zstd"}]
    if spec.dtype == "uint8" and len(spec.shape) == _AXES and spec.shape[2] in {1, 3}:
        configs = [{"format": "webp"}, {"format": "webp", "quality": 90}, {"format": "webp", "quality": 60}]
    return _points("full", spec, [("input", config, None) for config in configs], samples[:_TRIED], {})


def numbered(*rates: Rates) -> list[dict[str, Any]]:
    """All points with their ids, as the manifest lists them."""
    points = [point for each in rates for point in each.points]
    return [{"id": index, **point} for index, point in enumerate(points)]


@torch.no_grad()
def logits_of(module: nn.Module, inputs: Tensor) -> Tensor:
    """float32 (N, classes), some samples at a time; of a tuple the first."""
    found = [module(part) for part in torch.split(inputs, _BATCH)]
    return torch.cat([each[0] if isinstance(each, (tuple, list)) else each for each in found])


def kl_nats(wanted: Tensor, found: Tensor) -> float:
    """Mean KL divergence of softmax(found) from softmax(wanted), logits (N, classes)."""
    logs, others = wanted.double().log_softmax(dim=1), found.double().log_softmax(dim=1)
    return max(0.0, float((logs.exp() * (logs - others)).sum(dim=1).mean()))


def harm(wanted: Tensor, found: Tensor) -> float:
    """The larger of the mean KL divergence, in nats, and half the share of samples whose class changes."""
    changed = float((wanted.argmax(1) != found.argmax(1)).double().mean())
    return max(kl_nats(wanted, found), changed / 2)


def _gradients(tail: nn.Module, cuts: Tensor) -> Tensor:
    """float32 (n, draws, ...) of as many samples as memory has room for."""
    elements = cuts[0].numel()
    draws = max(1, min(_MOST_DRAWS, _MOST_GRADIENTS // (elements * min(len(cuts), _TRIED))))
    count = max(1, min(len(cuts), _MOST_GRADIENTS // (elements * draws)))
    try:
        return gradients(FirstOutput(tail), cuts[:count], draws)
    except RuntimeError as error:
        msg = f"the tail has no gradient at this cut ({str(error).splitlines()[0][:200]}); choose another"
        raise ConfigError(msg) from None


class FirstOutput(nn.Module):
    """A module's first output alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module

    def forward(self, x: Tensor) -> Tensor:
        """As the module's own."""
        found = self._module(x)
        first: Tensor = found[0] if isinstance(found, (tuple, list)) else found
        return first


def _levels(
    tail: nn.Module, cuts: Tensor, tables: Tables, limits: Sequence[float], wanted: tuple[str, Config] | None
) -> list[dict[str, Any]]:
    whole = logits_of(tail, cuts)
    codecs = dict(_opened(TensorSpec(dtype="float32", shape=tuple(cuts.shape[1:])), tables))

    def cost(level: int) -> float:
        return harm(whole, logits_of(tail, _travelled(codecs[level], cuts)))

    levels = set(coarsest(sorted(codecs), cost, limits))
    level = wanted[1].get("level") if wanted is not None and wanted[0] == "transform" else None
    if isinstance(level, int) and level in codecs:
        levels.add(level)
    return [{"level": level} for level in sorted(levels)]


def _opened(spec: TensorSpec, tables: Tables) -> Iterator[tuple[int, Codec]]:
    """Codec `transform` at every level at which something is left of the tensor. Raises ConfigError for none."""
    for level in _LEVELS:
        try:
            yield level, open_codec("transform", spec, {"level": level}, tables)
        except ConfigError:
            if level == _LEVELS[0]:
                raise
            return


def _steps(tail: nn.Module, tried: Tensor, fitted: Tensor, felt: Tensor, limits: Sequence[float]) -> Array:
    """float32 (rates, channels): one unit of noise in any channel is felt alike; the scale is by trial."""
    channels = fitted.shape[1]
    power = felt.double().transpose(0, 2).flatten(1).square().mean(dim=1)
    spread = fitted.double().transpose(0, 1).flatten(1).std(dim=1).clamp_min(1e-6)
    if not power.any():
        msg = "all gradients are 0, so the output does not depend on this cut; choose another"
        raise ConfigError(msg)
    unit = 1 / power.sqrt().clamp_min(1e-3 * float(power.max()) ** 0.5)
    unit = torch.minimum(unit / unit.mean(), 4 * spread / spread.mean()) * spread.mean()
    whole, shape = logits_of(tail, tried), (channels, *([1] * (tried.dim() - 2)))

    def steps_at(half_octaves: int) -> Tensor:
        return (unit * 2 ** (half_octaves / 2)).float()

    def cost(half_octaves: int) -> float:
        step = steps_at(half_octaves).reshape(shape)
        return harm(whole, logits_of(tail, (tried / step).round() * step))

    return np.stack([steps_at(each).numpy() for each in coarsest(_HALF_OCTAVES, cost, limits)])


def coarsest(candidates: Sequence[int], cost: Callable[[int], float], limits: Sequence[float] = WANTED) -> list[int]:
    """For each limit, ascending, the largest candidate, ascending, up to which no cost is over it.

    The rates are two candidates apart or more, the finer ones where need be finer than they must; where even the first
    candidates cost more, these stand in.
    """
    costs: list[float] = []
    for each in candidates:
        costs.append(cost(each))
        if costs[-1] > limits[-1] and len(costs) > _APART * len(limits):
            break
    chosen: list[int] = []
    for place, limit in reversed(list(enumerate(limits))):
        within = next((index for index, value in enumerate(costs) if value > limit), len(costs)) - 1
        most = chosen[-1] - _APART if chosen else len(candidates) - 1
        chosen.append(min(max(within, _APART * place), most))
    return [candidates[index] for index in sorted({max(0, index) for index in chosen})]


def _travelled(codec: Codec, cuts: Tensor) -> Tensor:
    return torch.from_numpy(np.stack([codec.decode(codec.encode(each)) for each in cuts.numpy()]))


def _points(
    part: str,
    spec: TensorSpec,
    rows: Sequence[_Row],
    arrays: Array,
    tables: dict[str, Tables],
) -> Rates:
    points: list[dict[str, Any]] = []
    left_out: list[str] = []
    for codec_id, config, file in rows:
        codec = open_codec(codec_id, spec, config, tables[file] if file else None)
        sizes = [len(codec.encode(array)) for array in arrays]
        if max(sizes) + _FRAME_BEYOND > MAX_FRAME_BYTES:
            told = " ".join([codec_id, *(f"{key}={value}" for key, value in config.items())])
            left_out.append(f"{told} makes {max(sizes):,} bytes, a frame has {MAX_FRAME_BYTES:,}")
            continue
        mean = round(float(np.mean(sizes)), 2)
        points.append({"part": part, "codec": codec_id, "config": config, "tables": file, "mean_bytes": mean})
    used = {point["tables"] for point in points}
    return Rates(points, {name: each for name, each in tables.items() if name in used}, left_out)
