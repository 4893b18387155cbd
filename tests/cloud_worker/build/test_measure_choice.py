"""Which cuts are worth measuring."""

from __future__ import annotations

import pytest

from cloud_worker.build.cut.cuts import Crossing, Cut, cuts
from cloud_worker.build.measure.profiling import worth_measuring
from schemas.errors import ConfigError
from schemas.tensor import TensorSpec
from tests.cloud_worker.build.cut_models import resnet, signal_net, traced


def cut(index: int, name: str, elements: int, share: float, *, tensors: int = 1, refused: str | None = None) -> Cut:
    modules = () if "/" in name else (name,)
    crossing = (Crossing(name, "float32", (elements,)),) * tensors
    spec = None if refused else TensorSpec(dtype="float32", shape=(elements,))
    return Cut(index, name, modules, crossing, elements, round(share * 1000), share, spec, refused)


def names(found: list[Cut]) -> list[str]:
    return [each.name for each in found]


def test_what_is_dominated_refused_or_an_extreme_is_dropped() -> None:
    every = [
        cut(1, "norm", 90, 0.0),
        cut(2, "a", 80, 0.1),
        cut(3, "b", 100, 0.2),
        cut(4, "c", 80, 0.3),
        cut(5, "d", 40, 0.3),
        cut(6, "e", 40, 0.3),
        cut(7, "f", 10, 0.5, refused="integers cross"),
        cut(8, "g", 20, 0.9),
        cut(9, "soft", 5, 1.0),
    ]
    assert names(worth_measuring(every)) == ["a", "e", "g"]


def test_a_tenth_more_is_no_more_unless_it_is_for_nothing() -> None:
    every = [
        cut(1, "patch", 100, 0.1),
        cut(2, "token", 106, 0.1),
        cut(3, "layer.0", 106, 0.4),
        cut(4, "wide", 120, 0.6),
    ]
    assert names(worth_measuring(every)) == ["patch", "layer.0"]


def test_of_a_block_with_a_skip_its_end_stays() -> None:
    every = [
        cut(1, "stem", 100, 0.1),
        cut(2, "block.conv", 90, 0.2, tensors=2),
        cut(3, "block/add", 80, 0.2),
        cut(4, "block", 60, 0.3),
        cut(5, "chain.0", 50, 0.5),
        cut(6, "chain.1", 40, 0.7),
    ]
    assert names(worth_measuring(every)) == ["stem", "block", "chain.0", "chain.1"]


def test_a_block_that_is_most_of_the_model_is_cut_inside() -> None:
    every = [
        cut(1, "stem", 100, 0.1),
        cut(2, "net.down", 90, 0.4, tensors=2),
        cut(3, "net.up", 80, 0.7, tensors=2),
        cut(4, "net", 60, 0.9),
    ]
    assert names(worth_measuring(every)) == ["stem", "net.down", "net.up", "net"]


def test_no_more_than_wanted_and_the_ends_stay() -> None:
    every = [cut(index, f"l{index}", 1000 - index, index / 40) for index in range(1, 40)]
    assert len(worth_measuring(every)) == 12
    assert names(worth_measuring(every, 2)) == ["l1", "l39"]
    assert names(worth_measuring(every, 1)) == ["l39"]
    with pytest.raises(ConfigError, match="1 or more"):
        worth_measuring(every, 0)


@pytest.mark.parametrize(("make", "shape"), [(resnet, (3, 32, 32)), (signal_net, (2, 64))])
def test_real_graphs_keep_what_falls(make: object, shape: tuple[int, ...]) -> None:
    every = cuts(traced(make, *shape)[1])  # type: ignore[arg-type]
    found = worth_measuring(every)
    assert len(found) > 1
    sizes = [each.elements for each in found]
    assert sizes == sorted(sizes, reverse=True)
    assert not any(each.name.startswith("5.") for each in found if make is resnet)
