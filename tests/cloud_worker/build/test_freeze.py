"""The pairing id binds all parts that may answer."""

from __future__ import annotations

import copy

import torch
from torch import nn

from cloud_worker.build.export.freeze import weights_digest


def pair() -> dict[str, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return {"head": nn.Conv2d(1, 2, 3), "tail": nn.Linear(4, 2), "full": nn.Sequential(nn.Linear(2, 2))}


def test_equal_weights_give_the_same_digest_in_whatever_order() -> None:
    parts = pair()
    again = {name: copy.deepcopy(parts[name]) for name in reversed(parts)}
    assert weights_digest(**parts) == weights_digest(**again)


def test_one_weight_in_any_part_gives_another() -> None:
    digests = {weights_digest(**pair())}
    for name in pair():
        parts = pair()
        with torch.no_grad():
            next(parts[name].parameters()).view(-1)[0] += 1e-3
        digests.add(weights_digest(**parts))
    assert len(digests) == 4


def test_a_part_more_or_in_another_place_gives_another() -> None:
    parts = pair()
    fewer = {name: parts[name] for name in ("head", "tail")}
    swapped = {"head": parts["tail"], "tail": parts["head"], "full": parts["full"]}
    assert len({weights_digest(**each) for each in (parts, fewer, swapped)}) == 3
