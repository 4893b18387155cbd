"""The operating points of a pair's bundle, and the tables of its codec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cloud_worker.build import fit_bottleneck
from models.fashion_mnist import data, measure
from schemas.bundle import TABLES
from schemas.codecs import open_codec
from schemas.tensor import TensorSpec

if TYPE_CHECKING:
    from models.fashion_mnist.runs import Run
    from schemas.codecs.tables import Tables

SAMPLE = TensorSpec(dtype="uint8", shape=(28, 28, 1))


def cut_spec(run: Run) -> TensorSpec:
    """The cut as the manifest states it."""
    return TensorSpec(dtype="float32", shape=run.pair.bottleneck.shape)


def codec_tables(run: Run, part: data.Labelled) -> Tables:
    """Of codec `bottleneck` at every rate: the gains' steps, and the integers of a part's cuts counted."""
    tensors, _ = measure.cuts(run.pair, part)
    return fit_bottleneck.fit(tensors, 1 / run.pair.rates.gains.detach().numpy())


def operating_points(run: Run, part: data.Labelled, tables: Tables) -> list[dict[str, Any]]:
    """The cut at each rate, richest first; the cut through the baseline; the raw image to the unsplit model."""
    tensors, images = measure.cuts(run.pair, part)[0], part.images[..., None]

    def point(which: str, codec_id: str, config: dict[str, Any], *, needs: bool = False) -> dict[str, Any]:
        spec = cut_spec(run) if which == "tail" else SAMPLE
        codec = open_codec(codec_id, spec, config, tables if needs else None)
        size = float(np.mean([len(codec.encode(array)) for array in (tensors if which == "tail" else images)]))
        file = {"tables": TABLES} if needs else {}
        return {"part": which, "codec": codec_id, "config": config, **file, "mean_bytes": round(size, 2)}

    rows = (
        *(point("tail", "bottleneck", {"rate": rate}, needs=True) for rate in range(run.pair.bottleneck.rates)),
        point("tail", "minmax_u8", {}),
        point("full", "input", {"format": "webp"}),
    )
    return [{"id": index, **row} for index, row in enumerate(rows)]
