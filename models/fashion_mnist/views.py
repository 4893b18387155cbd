"""Augmented views of the training part, and what the unsplit model answers to each.

A view is one augmentation of every image. Its random numbers depend on its index alone, so all seeds of a pair learn
from the same views, and the teacher's answers to them are computed once and kept: a teacher has to see the very
image that the pupil sees (Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", 2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from models.fashion_mnist import data
from models.fashion_mnist.files import save
from models.fashion_mnist.freeze import weights_digest

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 500
"""Images that the teacher sees at once."""
SPREAD = 7_919
"""Distance of the seeds of two views."""


class Batch(NamedTuple):
    """Images float32 (N, 1, 28, 28), labels int64 (N,), and the teacher's logits float32 (N, 10) if there is one."""

    images: Tensor
    labels: Tensor
    teacher: Tensor | None

    def take(self, rows: Tensor) -> Batch:
        """Those rows, images channels last in memory."""
        images = self.images[rows].contiguous(memory_format=torch.channels_last)
        return Batch(images, self.labels[rows], None if self.teacher is None else self.teacher[rows])


class Views:
    """`count` views of a part on a device; with a teacher its answers are kept in `folder`."""

    def __init__(self, part: data.Labelled, count: int, device: torch.device, hole: int = 8) -> None:
        self.count = count
        self._hole = hole
        self._images = torch.from_numpy(data.normalise(part.images)).to(device)
        self._labels = torch.from_numpy(part.labels).long().to(device)
        self._teacher: nn.Module | None = None
        self._folder: Path | None = None

    def __len__(self) -> int:
        return len(self._labels)

    def taught_by(self, teacher: nn.Module, folder: Path) -> Views:
        """The same views with the answers of `teacher`; they are read from `folder` where an earlier run left them."""
        self._folder = folder / f"teacher-{weights_digest(full=teacher)[:12]}-{len(self)}-{self._hole}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._teacher = teacher.to(self._images.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return self

    def view(self, index: int) -> Batch:
        """The whole part in view `index` modulo `count`."""
        which = index % self.count
        rng = torch.Generator().manual_seed(SPREAD * (which + 1))
        images = data.augment(self._images, rng, hole=self._hole)
        return Batch(images, self._labels, self._answers(images, which))

    def _answers(self, images: Tensor, which: int) -> Tensor | None:
        if self._teacher is None or self._folder is None:
            return None
        path = self._folder / f"{which}.pt"
        if not path.exists():
            with torch.inference_mode(), torch.autocast(images.device.type, torch.bfloat16):
                parts = [self._teacher(chunk).half().cpu() for chunk in torch.split(images, CHUNK)]
            save(path, torch.cat(parts))
        return torch.load(path, weights_only=True).to(images.device).float()  # type: ignore[no-any-return]
