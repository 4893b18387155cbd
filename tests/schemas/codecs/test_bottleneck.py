from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codecs import Tables
from schemas.codecs.bottleneck import Bottleneck
from schemas.errors import ConfigError, DecodeError
from tests.schemas.codecs.backends import pure_python
from tests.schemas.samples import BOTTLENECK, SPEC, halves, normal


@given(st.integers(0, 1), st.integers(0, 10_000))
def test_each_value_comes_back_as_the_nearest_multiple_of_its_step(rate: int, seed: int) -> None:
    codec, array = Bottleneck(SPEC, {"rate": rate}, BOTTLENECK), normal(SPEC.shape, seed)
    step = BOTTLENECK["step"][rate][:, None, None]
    decoded = codec.decode(codec.encode(array))
    assert (np.abs(decoded - array) <= step * 0.500001).all()
    np.testing.assert_array_equal(decoded, np.round(decoded / step) * step)


def test_halves_are_rounded_away_from_zero() -> None:
    codec = Bottleneck(SPEC, {"rate": 1}, BOTTLENECK)
    array = np.zeros(SPEC.shape, np.float32)
    array[0, 0, :4] = 0.5, -0.5, 1.5, -1.5
    assert codec.decode(codec.encode(array))[0, 0, :4].tolist() == [1.0, -1.0, 2.0, -2.0]


def test_what_the_tables_do_not_know_costs_more_and_comes_back_all_the_same() -> None:
    codec = Bottleneck(SPEC, {"rate": 1}, BOTTLENECK)
    usual, odd = np.zeros(SPEC.shape, np.float32), np.zeros(SPEC.shape, np.float32)
    odd[0, 0, :2] = 900.0, -30_000.0
    assert codec.decode(codec.encode(odd)).tobytes() == odd.tobytes()
    assert len(codec.encode(odd)) >= len(codec.encode(usual)) + 4


def test_what_is_not_a_number_is_nothing_and_what_is_too_large_is_the_largest() -> None:
    codec = Bottleneck(SPEC, {"rate": 1}, BOTTLENECK)
    array = np.zeros(SPEC.shape, np.float32)
    array[0, 0, :3] = np.nan, np.inf, -1e30
    assert codec.decode(codec.encode(array))[0, 0, :3].tolist() == [0.0, 32_767.0, -32_767.0]


def test_a_node_without_a_compiler_makes_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = [halves(SPEC.shape, seed, 9) for seed in range(20)]
    here = [Bottleneck(SPEC, {"rate": 0}, BOTTLENECK).encode(array) for array in arrays]
    pure_python(monkeypatch)
    assert [Bottleneck(SPEC, {"rate": 0}, BOTTLENECK).encode(array) for array in arrays] == here


@pytest.mark.parametrize("rate", [-1, 2, 256, 0.0, "0", None, True])
def test_a_rate_that_there_is_not_is_refused(rate: object) -> None:
    with pytest.raises(ConfigError, match="codec bottleneck: rate"):
        Bottleneck(SPEC, {"rate": rate}, BOTTLENECK)


_BROKEN: dict[str, tuple[Tables, str]] = {
    "steps of other channels": (BOTTLENECK | {"step": np.ones((2, 4), np.float32)}, "table step is"),
    "a step of nothing": (BOTTLENECK | {"step": np.zeros((2, 3), np.float32)}, r"(inverse_)?step\[0\]"),
    "a step that is not a number": (BOTTLENECK | {"step": np.full((2, 3), np.nan, np.float32)}, "step"),
    "places of another tensor": (BOTTLENECK | {"index": np.zeros((2, 3, 9), np.uint16)}, "table index is"),
    "a table that there is not": (BOTTLENECK | {"index": np.full((2, 3, 10), 8, np.uint16)}, r"index\[0\] is 8"),
    "sizes of other probabilities": (BOTTLENECK | {"prior_freqs": BOTTLENECK["prior_freqs"][1:]}, "prior_size sums"),
}


@pytest.mark.parametrize(("tables", "message"), _BROKEN.values(), ids=_BROKEN)
def test_tables_that_do_not_fit_are_refused_by_name(tables: Tables, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Bottleneck(SPEC, {"rate": 0}, tables)


def test_every_prefix_and_every_flipped_bit_is_refused() -> None:
    codec = Bottleneck(SPEC, {"rate": 0}, BOTTLENECK)
    payload = codec.encode(normal(SPEC.shape))
    flipped = (bytes(b ^ (bit == i // 8) << i % 8 for bit, b in enumerate(payload)) for i in range(8 * len(payload)))
    for bad in [*(payload[:size] for size in range(len(payload))), *flipped, payload + b"\0"]:
        with pytest.raises(DecodeError):
            codec.decode(bad)
