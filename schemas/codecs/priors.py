"""Probability tables as arrays of a file of codec tables, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.codecs.entropy_tables import Table
from schemas.codecs.tables import Tables, table_of
from schemas.errors import ConfigError


def pack_prior(prior: Sequence[Table]) -> Tables:
    """As tables prior_low int16[T], prior_size uint16[T] and prior_freqs uint16[sum of sizes], one after the other."""
    return {
        "prior_low": np.array([table.low for table in prior], np.int16),
        "prior_size": np.array([len(table.freqs) for table in prior], np.uint16),
        "prior_freqs": np.concatenate([table.freqs for table in prior]),
    }


def read_prior(tables: Tables) -> list[Table]:
    """Inverse of `pack_prior`. Raises ConfigError for tables that are missing or do not fit together."""
    lows = table_of(tables, "prior_low", "int16", (None,))
    sizes = table_of(tables, "prior_size", "uint16", (len(lows),)).astype(np.int64)
    freqs = table_of(tables, "prior_freqs", "uint16", (None,))
    if sizes.sum() != len(freqs):
        msg = f"prior_size sums to {sizes.sum()} and prior_freqs has {len(freqs)} items; calibrate the codec again"
        raise ConfigError(msg)
    parts = np.split(freqs, np.cumsum(sizes)[:-1])
    return [Table(int(low), part) for low, part in zip(lows, parts, strict=True)]
