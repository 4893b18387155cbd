"""Fits the tables of the codec `transform` to activations and to the gradients that `fisher` takes there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from schemas.codecs.entropy import Table, normalise
from schemas.codecs.priors import pack_prior
from schemas.codecs.tables import Tables
from schemas.codecs.transform import FINEST, LEVELS_AN_OCTAVE
from schemas.errors import ConfigError

LEVEL_0_KL: Final = 0.05
"""Nats of KL divergence that level 0 would cost if every coefficient were coded and the model were quadratic."""
TABLES: Final = 36
_POOLED: Final = (-12, -8, -4, 0, 4, 8)
"""Levels whose statistics make the tables."""
_SHRINK: Final = 0.1
"""Weight of all bands together in a band's statistics; a fifth of it where the band has plenty of its own."""
_PLENTY: Final = 5000
_DAMPING: Final = 1e-4
_LARGEST: Final = 255
_PRIOR_WEIGHT: Final = 30.0
_AXES: Final = 4


@dataclass(frozen=True, slots=True)
class Choices:
    """What may be chosen about a fit; `python -m benchmarks ablation` shows what each is worth."""

    band_edges: tuple[int, ...] = (1, 2, 4, 7, 11, 18, 29)
    """Frequencies u + v below the first edge are one band, up to the next edge the next."""
    offset: float = 0.46
    """Rounding: a level more from a fraction of 1 - offset on."""
    shift: float = 0.06
    """Values come back this part of a step further out than their level."""
    floor_octaves: float = 2.5
    """A coefficient whose mean size is below 2**-floor_octaves steps is not coded: it costs time and gains little."""


class Bands(NamedTuple):
    """Channel matrices of each band of frequencies."""

    of_frequency: Tensor
    """int64 (H, W): the band of each frequency."""
    forward: Tensor
    """float64 (B, C, C), coefficients = features @ forward."""
    inverse: Tensor
    """float64 (B, C, C), features = coefficients @ inverse."""


def fit(activations: Tensor, gradients: Tensor, choices: Choices = Choices()) -> Tables:
    """Tables for tensors like `activations`, float32 (N, C, H, W), where `gradients` is float32 (N, draws, C, H, W).

    In order: DCT over space; for each band the Karhunen-Loeve transform of F^1/2 S F^1/2, S the channels' second
    moment and F that of the gradients; a weight for each frequency, the root of what Fisher information is left; and
    tables by how large a coefficient usually is. Raises ConfigError for other shapes, for what is not finite, and for
    gradients that are all 0.
    """
    _check(activations, gradients)
    _, channels, height, width = activations.shape
    mean = activations.double().mean(dim=(0, 2, 3)).float()
    features = _dct((activations - mean[:, None, None]).double())
    felt = _dct(gradients.double().flatten(0, 1))
    bands = _fit_bands(features, felt, choices.band_edges)
    coefficients = _mix(features, bands.of_frequency, bands.forward)
    left = _mix(felt, bands.of_frequency, bands.inverse.transpose(1, 2))
    weight = left.square().mean(dim=(0, 1)).sqrt().clamp_min(1e-6).float()
    step = float(np.sqrt(24 * LEVEL_0_KL / (channels * height * width)))
    units = coefficients * weight / step
    of_component, of_frequency = _spreads(units.abs().mean(dim=0), bands.of_frequency, choices.floor_octaves)
    components = _components_used(of_component, of_frequency, bands.of_frequency)
    return {
        "mean": mean.numpy(),
        "rows": _half_basis(height),
        "columns": _half_basis(width),
        "band": bands.of_frequency.numpy().astype(np.uint8),
        "weight": weight.numpy(),
        "quantiser": np.array([step, choices.offset, choices.shift], np.float32),
        "spread_component": of_component[:, :components].astype(np.int16),
        "spread_frequency": of_frequency.astype(np.int16),
        **_stored("forward", bands.forward[:, :, :components]),
        **_stored("inverse", bands.inverse[:, :components]),
        **_prior(units.numpy(), of_component[bands.of_frequency.numpy()].transpose(2, 0, 1) + of_frequency, choices),
    }


def _check(activations: Tensor, gradients: Tensor) -> None:
    fits = activations.dim() == _AXES and gradients.shape == (
        len(activations),
        gradients.shape[1],
        *activations.shape[1:],
    )
    if not fits or not len(activations):
        shapes = f"{list(activations.shape)} and {list(gradients.shape)}"
        msg = f"fitting codec transform takes (N, C, H, W) and gradients (N, draws, C, H, W), got {shapes}"
        raise ConfigError(msg)
    if not (activations.isfinite().all() and gradients.isfinite().all()):
        msg = "fitting codec transform: activations or gradients are not finite; look for the sample that makes them so"
        raise ConfigError(msg)
    if not gradients.any():
        msg = "fitting codec transform: all gradients are 0, so the output does not depend on this cut; choose another"
        raise ConfigError(msg)


def _basis(size: int) -> Tensor:
    """Orthonormal DCT-II, float64 (size, size), one vector a row (Ahmed, Natarajan and Rao 1974)."""
    place = torch.arange(size, dtype=torch.float64)
    vectors: Tensor = torch.cos(torch.pi * (2 * place + 1) * place[:, None] / (2 * size)) * (2 / size) ** 0.5
    vectors[0] /= 2**0.5
    return vectors


def _half_basis(size: int) -> np.ndarray:
    return np.ascontiguousarray(_basis(size)[:, : (size + 1) // 2].numpy().astype(np.float32))


def _dct(x: Tensor) -> Tensor:
    """float64 (n, C, H, W), over the last two axes."""
    frequencies: Tensor = _basis(x.shape[2]) @ x @ _basis(x.shape[3]).T
    return frequencies


def _mix(x: Tensor, of_frequency: Tensor, matrices: Tensor) -> Tensor:
    """Each frequency's channels times the matrix of its band."""
    out = torch.empty_like(x)
    for band, matrix in enumerate(matrices):
        places = of_frequency == band
        out[:, :, places] = torch.einsum("ncf,ck->nkf", x[:, :, places], matrix)
    return out


def _moment(x: Tensor) -> Tensor:
    """Second moment of the channels, float64 (C, C), of (n, C, places)."""
    flat = x.transpose(0, 1).flatten(1)
    return flat @ flat.T / flat.shape[1]


def _fit_bands(features: Tensor, felt: Tensor, edges: tuple[int, ...]) -> Bands:
    height, width = features.shape[2:]
    radius = torch.arange(height)[:, None] + torch.arange(width)
    of_frequency = torch.bucketize(radius, torch.tensor(edges), right=True)
    whole = _moment(features.flatten(2)), _moment(felt.flatten(2))
    pairs = []
    for band in range(int(of_frequency.max()) + 1):
        places = of_frequency == band
        own = len(features) * int(places.sum()) >= _PLENTY
        share = _SHRINK / 5 if own else _SHRINK
        parts = (features[:, :, places], felt[:, :, places])
        pairs.append(_matrices(*(_shrunk(_moment(x), all_, share) for x, all_ in zip(parts, whole, strict=True))))
    forward, inverse = (torch.stack(matrices) for matrices in zip(*pairs, strict=True))
    return Bands(of_frequency, forward, inverse)


def _shrunk(moment: Tensor, whole: Tensor, share: float) -> Tensor:
    """A band's moment, drawn towards the shape of the whole one (Ledoit and Wolf 2004)."""
    return (1 - share) * moment + share * whole * (moment.trace() / whole.trace().clamp_min(1e-30))


def _matrices(covariance: Tensor, fisher: Tensor) -> tuple[Tensor, Tensor]:
    """Forward and inverse channel matrices, the component of most worth first."""
    size = len(fisher)
    values, vectors = torch.linalg.eigh(
        fisher + (_DAMPING * fisher.trace() / size + 1e-30) * torch.eye(size, dtype=torch.float64)
    )
    root = values.clamp_min(values.max() * 1e-9).sqrt()
    half, back = (vectors * root) @ vectors.T, (vectors / root) @ vectors.T
    turn = torch.linalg.eigh(half @ covariance @ half).eigenvectors.flip(1)
    return half @ turn, turn.T @ back


def _spreads(mean_size: Tensor, of_frequency: Tensor, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Where each coefficient's table is, as a sum: int64 (B, C), falling, plus int64 (H, W).

    From float64 (C, H, W), mean sizes in steps: four tables an octave, 0 at 2**-floor. Within a band sizes
    are near enough a product of what the component and what the frequency says; fitting every one alone gains nothing.
    """
    logs = LEVELS_AN_OCTAVE * (mean_size.clamp_min(1e-9).log2() + floor)
    of_component = torch.zeros(int(of_frequency.max()) + 1, len(mean_size), dtype=torch.float64)
    by_frequency = torch.zeros(of_frequency.shape, dtype=torch.float64)
    for band in range(len(of_component)):
        places = of_frequency == band
        part = logs[:, places]
        of_component[band] = part.mean(dim=1)
        by_frequency[places] = part.mean(dim=0) - part.mean()
    falling = np.minimum.accumulate(of_component.round().numpy(), axis=1)
    return falling.clip(-10_000, 10_000).astype(np.int64), by_frequency.round().numpy().astype(np.int64)


def _components_used(of_component: np.ndarray, of_frequency: np.ndarray, band: Tensor) -> int:
    spread = of_component[band.numpy()] + of_frequency[:, :, None] - FINEST
    return max(1, int((spread >= 0).sum(axis=2).max()))


def _stored(name: str, matrices: Tensor) -> Tables:
    """int16 with a float32 scale for each band."""
    scale = (matrices.abs().amax(dim=(1, 2)) / np.iinfo(np.int16).max).clamp_min(1e-30).float()
    levels = (matrices / scale.double()[:, None, None]).round().numpy().astype(np.int16)
    return {name: np.ascontiguousarray(levels), f"{name}_scale": scale.numpy()}


def _prior(units: np.ndarray, spread: np.ndarray, choices: Choices) -> Tables:
    """Probability tables of all coefficients that share one, counted over several levels and symmetric."""
    width = 2 * _LARGEST + 1
    counts = np.zeros(TABLES * width)
    for level in _POOLED:
        table = np.minimum(spread - level, TABLES - 1)
        coded = table >= 0
        scaled = units[:, coded] / 2 ** (level / LEVELS_AN_OCTAVE)
        levels = np.sign(scaled) * np.floor(np.abs(scaled) + choices.offset)
        cells = levels.clip(-_LARGEST, _LARGEST).astype(np.int64) + _LARGEST + table[coded] * width
        counts += np.bincount(cells.ravel(), minlength=len(counts))
    whole = counts.reshape(TABLES, width)
    return pack_prior([_table(index, whole[index], choices) for index in range(TABLES)])


def _table(index: int, counts: np.ndarray, choices: Choices) -> Table:
    """Of -m to m and the escape: what was counted, smoothed by a Laplacian of the table's mean size."""
    mean = 2.0 ** ((index + 0.5) / LEVELS_AN_OCTAVE - choices.floor_octaves)
    most = min(_LARGEST, int(np.ceil(10 * mean)) + 2)
    sizes = np.arange(_LARGEST + 1)
    edges = np.concatenate([[0.0], sizes + 1 - choices.offset])
    tail = np.exp(-edges / mean)
    laplacian = (tail[:-1] - tail[1:]) / np.where(sizes == 0, 1, 2)
    both = counts[_LARGEST:] + counts[_LARGEST::-1]
    mass = both / 2 + _PRIOR_WEIGHT * laplacian
    escape = 2 * mass[most + 1 :].sum() + 1e-3 * _PRIOR_WEIGHT
    kept = np.concatenate([mass[most:0:-1], mass[: most + 1], [escape]])
    return Table(-most, normalise([round(float(value) * 1000) for value in kept]))
