"""Heads to be timed on a device, and the times that come back: `edge-node profile FOLDER` stands between the two."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import nn

from cloud_worker.build.cut.cuts import Cut, Graph, split
from cloud_worker.build.cut.sizes import shape_of_sample, value_of
from cloud_worker.build.export.to_numpy import export_numpy
from cloud_worker.build.export.to_tflite import export_tflite, has_converter
from cloud_worker.build.files import write_whole
from cloud_worker.build.measure.net import whole_of
from cloud_worker.build.measure.profile_file import Place, SplitProfile, Spread
from schemas.device_times import DeviceTimes, HeadTime
from schemas.errors import BundleError, ConfigError

WHOLE: Final = "whole"
_NAME: Final = re.compile(r"(?:cut-(\d{1,7})|whole)\.(?:tflite|npz)")
_WHOLE_INDEX: Final = 0


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, by the cut's index; 0 is the whole model."""

    files: Mapping[int, Path]
    left_out: Mapping[int, str]
    """Why there is no file."""


class Merged(NamedTuple):
    """A profile with a device's times."""

    profile: SplitProfile
    estimated: tuple[int, ...]
    """Cuts that were not timed there, in order; 0 is the whole model."""


def export_heads(graph: Graph, cuts: Sequence[Cut], folder: Path) -> Exported:
    """Write each cut's head as `cut-0007.tflite`, and the whole model as `whole.tflite`.

    Without litert-torch they are `.npz`, as far as the NumPy format has their layers. What cannot be converted is left
    out, with the reason. The converter's libraries slow down what is measured in the same process after it. Raises
    ConfigError where nothing can be written, and for a cut that is refused.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder} cannot be made: {error.strerror or error}; name a folder that may be written to"
        raise ConfigError(msg) from None
    example = torch.zeros(1, *shape_of_sample(value_of(graph.input), graph.batch))
    heads = {cut.index: split(graph, cut)[0] for cut in cuts} | {_WHOLE_INDEX: whole_of(graph)}
    files: dict[int, Path] = {}
    left_out: dict[int, str] = {}
    for index, head in heads.items():
        stem = f"cut-{index:04d}" if index else WHOLE
        try:
            files[index] = _export(head, example, folder / stem)
        except BundleError as error:
            left_out[index] = str(error)
    return Exported(files, left_out)


def _export(head: nn.Module, example: torch.Tensor, stem: Path) -> Path:
    if has_converter():
        path, data = stem.with_suffix(".tflite"), export_tflite(head, example)
    else:
        path, data = stem.with_suffix(".npz"), export_numpy(_Single(head).eval(), example)
    write_whole(path, data)
    return path


class _Single(nn.Module):
    """A head under a module of its own, which is what the exporter traces."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(x)
        return out


def on_device(profile: SplitProfile, times: DeviceTimes) -> Merged:
    """The profile with `edge_ms` as the device measured it, and `edge` as that device.

    A cut that was not timed gets the time between those about it by multiply-accumulates, 0 of which take no time;
    behind the last it grows at that one's rate. Encoding stays as it was measured. Raises ConfigError for a file that
    is not named as `export_heads` does, for a cut that is not in the profile or is there twice, and without any of use.
    """
    macs = {cut.index: cut.head_macs for cut in profile.cuts} | {_WHOLE_INDEX: profile.full_macs}
    timed = _by_index(times, macs)
    known = [(0, 0.0, 0.0), *sorted((macs[index], each.p50_ms, each.p95_ms) for index, each in timed.items())]

    def spread(index: int) -> Spread:
        each = timed.get(index)
        return _between(known, macs[index]) if each is None else Spread(p50=each.p50_ms, p95=each.p95_ms)

    cuts = tuple(cut.model_copy(update={"edge_ms": spread(cut.index)}) for cut in profile.cuts)
    changed = {
        "edge": Place(runtime=times.runtime, device=times.device),
        "edge_only": profile.edge_only.model_copy(update={"edge_ms": spread(_WHOLE_INDEX)}),
        "cuts": cuts,
    }
    return Merged(profile.model_copy(update=changed), tuple(sorted(macs.keys() - timed.keys())))


def _by_index(times: DeviceTimes, macs: Mapping[int, int]) -> dict[int, HeadTime]:
    found: dict[int, HeadTime] = {}
    for entry in times.entries:
        match = _NAME.fullmatch(entry.file)
        if match is None:
            msg = f"{entry.file!r} is not named after a cut, like cut-0007.tflite; time the files of export_heads"
            raise ConfigError(msg)
        index = int(match[1] or _WHOLE_INDEX)
        if index not in macs or index in found:
            why = "is there twice" if index in found else f"is not in the profile, which has {sorted(macs)}"
            msg = f"{entry.file!r}: cut {index} {why}; time the heads of this profile, each once"
            raise ConfigError(msg)
        found[index] = entry
    if not any(macs[index] for index in found):
        msg = "none of the timed heads has a multiply-accumulate; time the whole model, or a later cut"
        raise ConfigError(msg)
    return found


def _between(known: Sequence[tuple[int, float, float]], macs: int) -> Spread:
    """By a straight line between the two about it, or from nothing through the last."""
    last = known[-1]
    if macs >= last[0]:
        return Spread(p50=last[1] * macs / last[0], p95=last[2] * macs / last[0])
    low, high = next((low, high) for low, high in pairwise(known) if low[0] <= macs < high[0])
    share = (macs - low[0]) / (high[0] - low[0])
    p50, p95 = (low[place] + share * (high[place] - low[place]) for place in (1, 2))
    return Spread(p50=p50, p95=max(p50, p95))
