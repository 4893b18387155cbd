"""Measures a model: what each way to split it costs and loses, as a profile that `plan` reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cloud_worker.build.cut import Cut, Graph
from cloud_worker.build.measure_choice import worth_measuring
from cloud_worker.build.measure_data import Data, Images, Settings
from cloud_worker.build.profile_file import SplitProfile

__all__ = ["Data", "Images", "Settings", "measure", "worth_measuring"]


def measure(
    graph: Graph, cuts: Sequence[Cut], data: Data, settings: Settings, say: Callable[[str], None] = lambda _: None
) -> SplitProfile:
    """The profile of a model and its cuts, none of which may be refused."""
    raise NotImplementedError
