"""Counts the integers of a learned bottleneck into the tables of the codec `bottleneck`."""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.codecs.entropy import TOTAL, Table, normalise
from schemas.codecs.priors import pack_prior
from schemas.codecs.tables import Tables
from schemas.errors import ConfigError
from schemas.tensor import Array

MOST_LEVEL: Final = 60
"""Larger integers are escapes."""
PRIOR_WEIGHT: Final = 8.0
"""How many samples the channel's own distribution counts for beside those of one place."""
GROUPS: Final = 64
"""Tables for each rate: places whose integers are distributed alike share one."""
MOST_IN_A_TABLE: Final = 65_536
"""Items in one direction of a table; see `schemas.tensor.Dimension`."""
_ROUNDS: Final = 12
_SCALE: Final = 1 << 16


def fit(latents: Array, steps: Array) -> Tables:
    """Tables for latents like float32 (N, C, ...) at each of the rates of `steps`, float32 (R, C).

    For each rate, places (a channel and a position) are grouped by their distribution, by Lloyd's algorithm under the
    Kullback-Leibler divergence, which is what coding with the group's table instead of the own one costs. Raises
    ConfigError for shapes that do not fit, steps that are not positive, values that are not finite, and for more than
    a file of tables holds.
    """
    if latents.ndim < 2 or steps.ndim != 2 or steps.shape[1] != latents.shape[1]:  # noqa: PLR2004
        msg = f"fitting codec bottleneck: latents {list(latents.shape)} and steps {list(steps.shape)} do not fit"
        raise ConfigError(msg)
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        msg = "fitting codec bottleneck: a step is not positive; train again, or leave the rate out"
        raise ConfigError(msg)
    if not np.isfinite(latents).all():
        msg = "fitting codec bottleneck: latents are not finite; look for the sample that makes them so"
        raise ConfigError(msg)
    flat = np.ascontiguousarray(latents.reshape(*latents.shape[:2], -1), np.float32)
    prior: list[Table] = []
    index = np.empty((len(steps), *flat.shape[1:]), np.uint16)
    for rate, step in enumerate(steps.astype(np.float32)):
        shares = _distributions(_levels(flat, step))
        groups = _grouped(shares.reshape(-1, shares.shape[-1]))
        index[rate] = len(prior) + groups.reshape(index[rate].shape)
        prior += _tables(shares.reshape(-1, shares.shape[-1]), groups)
    if sum(len(table.freqs) for table in prior) > MOST_IN_A_TABLE or flat.shape[2] > MOST_IN_A_TABLE:
        msg = f"fitting codec bottleneck: {len(steps)} rates of {list(latents.shape[1:])} do not fit a file of tables"
        raise ConfigError(msg + "; give fewer rates, or a cut of fewer positions")
    return {"step": steps.astype(np.float32), "index": index, **pack_prior(prior)}


def _levels(flat: Array, step: Array) -> Array:
    """int64 (N, C, P), rounded as the codec does."""
    scaled = flat * (np.float32(1) / step)[:, None]
    levels: Array = (np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))).astype(np.int64)
    return levels


def _distributions(levels: Array) -> Array:
    """Shares float64 (C, P, 2 * MOST_LEVEL + 2) of each integer and, last, of escapes; smoothed by the channel's."""
    count, channels, places = levels.shape
    bins = 2 * MOST_LEVEL + 2
    symbols = np.where(np.abs(levels) > MOST_LEVEL, bins - 1, levels + MOST_LEVEL)
    cells = symbols + bins * (np.arange(places) + places * np.arange(channels)[:, None])
    counts = np.bincount(cells.ravel(), minlength=channels * places * bins).reshape(channels, places, bins)
    whole = counts.sum(axis=1, keepdims=True) + 1e-3
    mixed: Array = (counts + PRIOR_WEIGHT * whole / whole.sum(axis=2, keepdims=True)) / (count + PRIOR_WEIGHT)
    return mixed


def _grouped(shares: Array) -> Array:
    """int64 (places,): the group of each distribution; groups are numbered without gaps."""
    order = np.argsort(shares @ np.arange(shares.shape[1]) ** 2, kind="stable")
    groups = np.empty(len(shares), np.int64)
    groups[order] = np.arange(len(shares)) * min(GROUPS, len(shares)) // len(shares)
    for _ in range(_ROUNDS):
        _, groups = np.unique(groups, return_inverse=True)
        centres = _centres(shares, groups)
        groups = (shares @ -np.log(centres).T).argmin(axis=1)
    return np.unique(groups, return_inverse=True)[1]


def _centres(shares: Array, groups: Array) -> Array:
    sums = np.zeros((groups.max() + 1, shares.shape[1]))
    np.add.at(sums, groups, shares)
    centres: Array = sums / sums.sum(axis=1, keepdims=True)
    return centres


def _tables(shares: Array, groups: Array) -> list[Table]:
    """One table a group, cut to the integers that are not vanishingly rare."""
    tables = []
    for centre in _centres(shares, groups):
        common = np.flatnonzero(centre[:-1] * TOTAL >= 1 / 4)
        first, last = (common[0], common[-1]) if len(common) else (MOST_LEVEL, MOST_LEVEL)
        rest = 1.0 - centre[first : last + 1].sum()
        counts = [round(float(share) * _SCALE) for share in (*centre[first : last + 1], max(rest, 0.0))]
        tables.append(Table(int(first) - MOST_LEVEL, normalise(counts)))
    return tables
