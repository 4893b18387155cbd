"""The same fit in this process or in one of its own: `python -m tests.cloud_worker.build.learn_run FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from cloud_worker.build.learn.learn import Say, learn
from cloud_worker.build.learn.settings import LearnSettings
from tests.cloud_worker.build.learn_models import blobs, image_net, known


def run(folder: Path, say: Say) -> None:
    """Three epochs of 48 steps on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model, graph, cut = known(image_net, "0", 1, 16, 16)
    train, validation = blobs(768, 2), blobs(32, 3)
    settings = LearnSettings(channels=4, epochs=3, batch=16)
    try:
        learn(graph, cut, model, train=train, validation=validation, folder=folder, settings=settings, say=say)
    finally:
        torch.set_num_threads(threads)


def show(line: str) -> None:
    """At once, since somebody waits for it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run(Path(sys.argv[1]), show)
