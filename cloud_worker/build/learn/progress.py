"""A bar over the steps of a fit, with the loss and the time that is left, where rich is installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cloud_worker.build.learn.loop import Watch


@contextmanager
def bar(done: int, steps: int) -> Iterator[Watch]:
    """What is to be told of each step's loss; shows nothing where stderr is no terminal or rich is not installed.

    Lines that are written to stderr meanwhile stand above the bar.
    """
    if not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - comes with the build extra only
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("learning"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=steps, completed=done, loss=float("nan"))

        def watch(loss: float) -> None:
            progress.update(task, advance=1, loss=loss)

        yield watch
