"""A bar over the steps of a fit, with the loss and the time that is left; the only module here that imports rich."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cloud_worker.build.learn.loop import Watch


@contextmanager
def bar(done: int, steps: int) -> Iterator[Watch]:
    """What is to be told of each step's loss; shows nothing where stderr is no terminal.

    Lines that are written to stderr meanwhile stand above the bar.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
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
