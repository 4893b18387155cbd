"""The ops of `head.npz` that move values and compute none: `edge_node.numpy_ops` describes them."""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated

from pydantic import Field

from edge_node import numpy_layers as layers
from edge_node.numpy_site import MAX_RANK, Layer, NoAttrs, Site, fresh
from schemas.record import Record
from schemas.tensor import MAX_ELEMENTS

_Axis = Annotated[int, Field(ge=0, lt=MAX_RANK)]
_Long = Annotated[int, Field(ge=1, le=MAX_ELEMENTS)]
_Pad = Annotated[int, Field(ge=0, le=4096)]
_Rank = Field(min_length=1, max_length=MAX_RANK)


class ConcatAttrs(Record):
    """Axis without the batch dimension."""

    axis: _Axis = 0


class ReshapeAttrs(Record):
    """The new shape."""

    shape: Annotated[tuple[_Long, ...], _Rank]


class PermuteAttrs(Record):
    """Which dimension comes to each place."""

    order: Annotated[tuple[_Axis, ...], _Rank]


class PadAttrs(Record):
    """How many values before and after each dimension."""

    before: Annotated[tuple[_Pad, ...], _Rank]
    after: Annotated[tuple[_Pad, ...], _Rank]
    value: Annotated[float, Field(ge=-3.4028234e38, le=3.4028234e38)] = 0.0


def concat(site: Site) -> Layer:
    """Join along one axis."""
    axis = site.attrs(ConcatAttrs).axis
    first = site.shapes[0]
    others = {shape[:axis] + shape[axis + 1 :] if len(shape) == len(first) else None for shape in site.shapes}
    if axis >= len(first) or len(others) != 1:
        raise site.fail(f"its inputs have shapes {[list(s) for s in site.shapes]}, which do not join along axis {axis}")
    total = sum(shape[axis] for shape in site.shapes)
    return fresh(partial(layers.concat, axis=axis), (*first[:axis], total, *first[axis + 1 :]))


def flatten(site: Site) -> Layer:
    """One dimension."""
    site.attrs(NoAttrs)
    return Layer(layers.flatten, (site.elements(),), site.elements())


def reshape(site: Site) -> Layer:
    """Another shape of as many values."""
    shape = site.attrs(ReshapeAttrs).shape
    if math.prod(shape) != site.elements():
        raise site.fail(f"its input has shape {list(site.shapes[0])}, which cannot become {list(shape)}")
    return Layer(partial(layers.reshape, shape=shape), shape, site.elements())


def permute(site: Site) -> Layer:
    """Dimensions in another order."""
    order, shape = site.attrs(PermuteAttrs).order, site.shapes[0]
    if sorted(order) != list(range(len(shape))):
        raise site.fail(f"order {list(order)} does not name each dimension of {list(shape)} once")
    return Layer(partial(layers.permute, order=order), tuple(shape[axis] for axis in order))


def pad(site: Site) -> Layer:
    """Constants around the values."""
    attrs, shape = site.attrs(PadAttrs), site.shapes[0]
    if not len(attrs.before) == len(attrs.after) == len(shape):
        raise site.fail(f"it pads {len(attrs.before)} and {len(attrs.after)} dimensions, its input has {len(shape)}")
    run = partial(layers.pad, before=attrs.before, after=attrs.after, value=attrs.value)
    return fresh(run, tuple(map(sum, zip(shape, attrs.before, attrs.after, strict=True))))
