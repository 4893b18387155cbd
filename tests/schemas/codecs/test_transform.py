from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codecs import Tables
from schemas.codecs.transform import COARSEST, FINEST, Transform
from schemas.codecs.transform_python import Sizes
from schemas.codecs.transform_python import Transform as InPython
from schemas.errors import ConfigError, DecodeError, TensorError
from schemas.tensor import FloatArray, TensorSpec
from tests.schemas.codecs.backends import COMPILED, pure_python
from tests.schemas.samples import SPEC, TRANSFORM, halves, normal


def orthonormal(size: int) -> FloatArray:
    """The first halves of the DCT's basis vectors."""
    place = np.arange(size)
    vectors = np.cos(np.pi * (2 * place + 1) * place[:, None] / (2 * size)) * np.sqrt(2 / size)
    vectors[0] /= np.sqrt(2)
    return vectors[:, : (size + 1) // 2].astype(np.float32)


def lossless(channels: int, height: int, width: int, step: float) -> Tables:
    """Tables that keep every coefficient of a plain DCT, channels as they are."""
    same = np.eye(channels) * 30_000
    scale = np.array([1 / 30_000], np.float32)
    return TRANSFORM | {
        "mean": np.zeros(channels, np.float32),
        "rows": orthonormal(height),
        "columns": orthonormal(width),
        "band": np.zeros((height, width), np.uint8),
        "weight": np.ones((height, width), np.float32),
        "quantiser": np.array([step, 0.5, 0.0], np.float32),
        "spread_component": np.full((1, channels), 30, np.int16),
        "spread_frequency": np.zeros((height, width), np.int16),
        "forward": same.astype(np.int16)[None],
        "forward_scale": scale,
        "inverse": same.astype(np.int16)[None],
        "inverse_scale": scale,
    }


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_what_comes_back_is_within_the_steps_of_what_was_sent(c: int, h: int, w: int, seed: int) -> None:
    spec, array = TensorSpec(dtype="float32", shape=(c, h, w)), normal((c, h, w), seed)
    codec = Transform(spec, {"level": 0}, lossless(c, h, w, step=0.01))
    error = codec.decode(codec.encode(array)).astype(np.float64) - array
    # the transform is orthonormal, so the error has the length of that of the coefficients: half a step each at most
    assert np.linalg.norm(error) <= 0.0051 * np.sqrt(array.size)


def test_a_level_more_makes_the_steps_a_fourth_of_an_octave_larger() -> None:
    array = normal((2, 6, 6), seed=9)
    spec = TensorSpec(dtype="float32", shape=array.shape)
    tables = lossless(2, 6, 6, step=0.05)
    first, later = (Transform(spec, {"level": level}, tables) for level in (0, 4))
    doubled = Transform(spec, {"level": 0}, tables | {"quantiser": np.array([0.1, 0.5, 0.0], np.float32)})
    assert later.decode(later.encode(array)).tobytes() == doubled.decode(doubled.encode(array)).tobytes()
    assert len(later.encode(array)) < len(first.encode(array))


def test_coefficients_below_the_floor_of_a_level_are_not_coded() -> None:
    sizes = {level: Transform(SPEC, {"level": level}, TRANSFORM).max_payload for level in (-3, 0, 6)}
    assert sizes[-3] > sizes[0] > sizes[6]


@pytest.mark.skipif(not COMPILED, reason="no compiler made the extensions here")
@settings(max_examples=60)
@given(st.data())
def test_both_back_ends_agree_to_the_last_bit(data: st.DataObject) -> None:
    from schemas.codecs._transform import Transform as InC  # noqa: PLC0415 - see above

    c, h, w, bands = (data.draw(st.integers(1, most)) for most in (70, 9, 9, 3))
    u, v, k = (data.draw(st.integers(1, most)) for most in (h, w, c))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))

    def some(*shape: int) -> FloatArray:
        return rng.standard_normal(shape).astype(np.float32) * np.float32(rng.choice([1e-30, 1, 1e18, 1e30]))

    plan: tuple[Any, ...] = (
        Sizes(c, h, w, u, v, bands, k),
        *(some(c), some(u, (h + 1) // 2), some(v, (w + 1) // 2), some(bands, c, k), some(bands, k, c)),
        rng.integers(0, bands, (u, v)).astype(np.uint8),
        (rng.integers(0, k + 1, (u, v)) * (rng.random((u, v)) < 0.7)).astype(np.uint16),
    )
    count = int(plan[-1].sum())
    x, values = some(c, h, w), some(count) * (rng.random(count) < 0.5)
    with np.errstate(all="ignore"):
        ends = [_both_ways(kind(*plan), x, values) for kind in (InC, InPython)]
    for mine, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(mine, other)  # NaN where NaN, whatever its bits


def _both_ways(transform: Any, x: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    forward, inverse = np.empty_like(values), np.empty_like(x)
    transform.forward(x, forward)
    transform.inverse(values, inverse)
    return forward, inverse


@pytest.mark.parametrize("backend", ["compiled", "pure"])
def test_any_layout_of_the_tensor_is_encoded_and_no_other_array(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "pure":
        pure_python(monkeypatch)
    codec, array = Transform(SPEC, {"level": 0}, TRANSFORM), normal(SPEC.shape, 1)
    payload = codec.encode(array)
    wide = np.zeros((*SPEC.shape[:2], 2 * SPEC.shape[2]), np.float32)
    wide[:, :, ::2] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(array), wide[:, :, ::2], read_only):
        assert codec.encode(same) == payload
    others = (array.astype(np.float64), array.view(np.int32), array.ravel(), array[:, :1], array.astype(">f4"))
    for other in (*others, np.asfortranarray(array[..., None])):
        with pytest.raises(TensorError, match="expected float32"):
            codec.encode(other)


def test_a_node_without_a_compiler_makes_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = [normal(SPEC.shape, seed) for seed in range(20)]
    here = [Transform(SPEC, {"level": 0}, TRANSFORM).encode(array) for array in arrays]
    pure_python(monkeypatch)
    codec = Transform(SPEC, {"level": 0}, TRANSFORM)
    assert [codec.encode(array) for array in arrays] == here
    assert [codec.decode(payload).tobytes() for payload in here] == [
        Transform(SPEC, {"level": 0}, TRANSFORM).decode(payload).tobytes() for payload in here
    ]


@pytest.mark.parametrize("level", [FINEST - 1, COARSEST + 1, 0.0, "0", None, True])
def test_a_level_that_there_is_not_is_refused(level: object) -> None:
    with pytest.raises(ConfigError, match="codec transform: level"):
        Transform(SPEC, {"level": level}, TRANSFORM)


def test_a_level_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="at level 24 nothing is left of the tensor; give a lower level"):
        Transform(SPEC, {"level": 24}, TRANSFORM)


_BROKEN: dict[str, tuple[Tables, str]] = {
    "none of a name": ({name: value for name, value in TRANSFORM.items() if name != "band"}, "no table band"),
    "a mean of another tensor": (TRANSFORM | {"mean": np.zeros(4, np.float32)}, r"table mean is float32\[4\]"),
    "more rows than there are": (TRANSFORM | {"rows": halves((3, 1), 1, 2)}, "table band is uint8"),
    "a band without a matrix": (TRANSFORM | {"band": np.full((2, 4), 2, np.uint8)}, "band 2 of 2"),
    "more components than channels": (
        TRANSFORM
        | {"forward": np.ones((2, 3, 60_000), np.int16), "inverse": np.ones((2, 60_000, 3), np.int16)}
        | {"spread_component": np.ones((2, 60_000), np.int16)},
        "60000 components of 3 channels",
    ),
    "NaN": (TRANSFORM | {"mean": np.full(3, np.nan, np.float32)}, "table mean has values that are not finite"),
    "a weight of nothing": (TRANSFORM | {"weight": np.zeros((2, 4), np.float32)}, "must be above 0"),
    "a step of nothing": (TRANSFORM | {"quantiser": np.zeros(3, np.float32)}, "must be above 0"),
    "an offset of more than a step": (TRANSFORM | {"quantiser": np.array([1, 2, 0], np.float32)}, "offset"),
    "steps and matrices beyond float32": (
        TRANSFORM
        | {"quantiser": np.array([6e4, 0.5, 0], np.float32), "weight": np.full((2, 4), 1e-28, np.float32)}
        | {"inverse_scale": np.full(2, 6e4, np.float32)},
        "beyond float32",
    ),
    "probabilities that do not add up": (TRANSFORM | {"prior_freqs": TRANSFORM["prior_freqs"] // 2}, "freqs"),
    "sizes of other probabilities": (TRANSFORM | {"prior_freqs": TRANSFORM["prior_freqs"][1:]}, "prior_size sums to"),
}


@pytest.mark.parametrize(("tables", "message"), _BROKEN.values(), ids=_BROKEN)
def test_tables_that_do_not_fit_are_refused_by_name(tables: Tables, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Transform(SPEC, {"level": 0}, tables)


def test_every_prefix_and_every_flipped_bit_is_refused() -> None:
    codec = Transform(SPEC, {"level": -3}, TRANSFORM)
    payload = codec.encode(normal(SPEC.shape))
    flipped = (bytes(b ^ (bit == i // 8) << i % 8 for bit, b in enumerate(payload)) for i in range(8 * len(payload)))
    for bad in [*(payload[:size] for size in range(len(payload))), *flipped, payload + b"\0"]:
        with pytest.raises(DecodeError):
            codec.decode(bad)
