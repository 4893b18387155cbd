"""A head and a tail for every shape of cut, which export as any others do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cloud_worker.build.cut.cuts import split
from cloud_worker.build.export.agree import run_pt2
from cloud_worker.build.export.freeze import folded, write_pt2
from cloud_worker.build.export.to_numpy import export_numpy
from cloud_worker.build.learn.blocks import Interleave
from cloud_worker.build.learn.pair import Pair, make_pair
from cloud_worker.build.learn.parts import WIDEST, parts_for
from cloud_worker.build.learn.settings import LearnSettings
from edge_node.numpy_head import NumpyHead
from schemas.errors import ConfigError
from tests.cloud_worker.build.cut_models import settle
from tests.cloud_worker.build.learn_models import Known, image_net, known, signal_net, token_net, vector_net
from tests.edge_node.head_files import VECTOR, manifest

KINDS = {
    "image": (image_net, "0", (1, 16, 16), (5, 4, 4)),
    "signal": (signal_net, "0", (2, 32), (5, 8)),
    "vector": (vector_net, "0", (6,), (5,)),
    "tokens": (token_net, "embed", (10, 6), (5, 10)),
}


def pair_of(kind: str) -> tuple[Known, Pair]:
    make, name, shape, _ = KINDS[kind]
    found = known(make, name, *shape)
    pair = make_pair(found.graph, found.cut, LearnSettings(channels=5, tokens=kind == "tokens"))
    return found, settle(pair)


def samples(kind: str, count: int) -> torch.Tensor:
    return torch.randn(count, *KINDS[kind][2], generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", KINDS)
def test_z_and_logits_are_of_the_shapes_that_are_told(kind: str) -> None:
    found, pair = pair_of(kind)
    inputs = samples(kind, 3)
    with torch.inference_mode():
        z, logits = pair.head(inputs)
        decoded, answer = pair.tail.decoder(z), pair.tail(z)
        whole = found.model(inputs)
    assert tuple(z.shape[1:]) == pair.spec.shape == KINDS[kind][3]
    assert tuple(decoded.shape[1:]) == (found.cut.spec.shape if found.cut.spec else ())
    assert logits.shape == answer.shape == whole.shape


@pytest.mark.parametrize("kind", KINDS)
def test_the_halves_begin_as_copies_of_the_unsplit_model(kind: str) -> None:
    found, pair = pair_of(kind)
    head, tail = split(found.graph, found.cut)
    inputs = samples(kind, 3)
    before = {name: tensor.clone() for name, tensor in found.model.state_dict().items()}
    with torch.no_grad():
        cut = head(inputs)
        assert torch.equal(pair.head.prefix(inputs), cut)
        assert torch.equal(pair.tail.suffix(cut), tail(cut))
        for parameter in pair.copied():
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.model.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns(kind: str) -> None:
    _, pair = pair_of(kind)
    pair.train()
    z, logits = pair.head(samples(kind, 8))
    (pair.tail(z).square().sum() + logits.square().sum()).backward()
    assert [name for name, each in pair.named_parameters() if each.grad is None or not each.grad.any()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_runs_in_numpy_and_gives_the_same(kind: str) -> None:
    _, pair = pair_of(kind)
    inputs = samples(kind, 1)
    with torch.inference_mode():
        z, logits = pair.head(inputs)
    fields = {**VECTOR, "sample": {"dtype": "float32", "shape": KINDS[kind][2]}}
    fields |= {"labels": tuple("abcd"[: logits.shape[1]]), "cut": pair.spec.model_dump()}
    head = NumpyHead(export_numpy(pair.head, torch.zeros_like(inputs)), manifest(fields, has_exit=True))
    found = head.run(inputs[0].numpy())
    np.testing.assert_allclose(found.cut, z[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(found.logits, logits[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("kind", ["image", "signal"])
def test_the_tail_is_exported_for_any_number_of_samples(kind: str, tmp_path: Path) -> None:
    _, pair = pair_of(kind)
    z = torch.randn(5, *pair.spec.shape, generator=torch.Generator().manual_seed(4))
    write_pt2(folded(pair.tail), torch.zeros(1, *pair.spec.shape), tmp_path / "tail.pt2")
    with torch.inference_mode():
        np.testing.assert_allclose(run_pt2(tmp_path / "tail.pt2", z), pair.tail(z).numpy(), atol=1e-4)


def test_a_gain_is_folded_away_with_its_norm() -> None:
    _, pair = pair_of("image")
    with torch.no_grad():
        pair.head.encoder.get_parameter("1.weight").copy_(torch.arange(5.0))
    inputs = samples("image", 2)
    found = folded(pair.head)
    assert not [each for each in found.get_submodule("encoder").modules() if isinstance(each, nn.BatchNorm2d)]
    with torch.inference_mode():
        torch.testing.assert_close(found(inputs)[0], pair.head(inputs)[0], atol=1e-5, rtol=1e-5)
        assert not found(inputs)[0][:, 0].any()


@pytest.mark.parametrize("shape", [(4, 7, 7), (4, 6, 6), (4, 8, 9), (4, 9), (4, 6)])
def test_small_and_odd_sides_stay(shape: tuple[int, ...]) -> None:
    parts = parts_for(shape, 3, 2, tokens=False)
    features = parts.neck(torch.randn(2, *shape))
    assert parts.shape == (2, *shape[1:])
    assert parts.decoder(parts.encoder(features)).shape == (2, *shape)


def test_a_wide_cut_gets_a_neck_of_bounded_width() -> None:
    parts = parts_for((512, 8, 8), 3, 2, tokens=False)
    assert parts.neck(torch.randn(2, 512, 8, 8)).shape == (2, WIDEST, 4, 4)


def test_a_signal_is_spread_by_interleaving_channels() -> None:
    assert Interleave()(torch.tensor([[[1, 2], [10, 20], [3, 4], [30, 40]]])).tolist() == [
        [[1, 10, 2, 20], [3, 30, 4, 40]]
    ]


@pytest.mark.parametrize(
    ("shape", "tokens", "told"), [((2, 3, 4, 5), False, "cut elsewhere"), ((2, 3, 4), True, "no tokens")]
)
def test_a_shape_that_is_not_known_is_refused(shape: tuple[int, ...], tokens: bool, told: str) -> None:  # noqa: FBT001
    with pytest.raises(ConfigError, match=told):
        parts_for(shape, 3, 2, tokens=tokens)


def test_the_seed_decides_the_new_weights_and_torchs_own_generator_stays() -> None:
    found = known(vector_net, "0", 6)
    state = torch.get_rng_state()
    one, same, other = (make_pair(found.graph, found.cut, LearnSettings(seed=seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
