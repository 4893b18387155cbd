"""What `benchmarks.entropy` measures is right before it is fast."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import entropy, rans_constants
from benchmarks.entropy import ZEROS, Method, damage, measure, methods, targets, workload
from benchmarks.numpy_rans import LaneCoder, lanes_for
from schemas.codecs import rans_python
from schemas.codecs.entropy import EntropyCoder
from schemas.errors import ConfigError
from tests.schemas.codecs.entropy_cases import HAS_C


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy, "_TENSORS", 2)
    monkeypatch.setattr(entropy, "_BUDGET_S", 0.0)


@pytest.mark.skipif(not HAS_C, reason="the extension was not compiled here")
@pytest.mark.parametrize("count", [50, 392, 5000])
def test_every_coder_gives_back_what_it_got_and_takes_no_less_than_the_code_length(count: int) -> None:
    load = workload(count, 0.8, np.random.default_rng(2))
    least = min(EntropyCoder(load.index, load.tables).cost_bits(each.astype(np.int32)) for each in load.tensors) / 8
    rows = [measure(method, load) for method in methods(load)]
    assert [row["coder"] for row in rows[:2]] == ["rANS in C", "rANS in Python"]
    assert rows[0]["bytes"] == rows[1]["bytes"] == min(row["bytes"] for row in rows)
    assert all(row["bytes"] >= least and row["encode_us"] > 0 and row["decode_us"] > 0 for row in rows)


def test_without_the_extension_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.codecs.entropy._backend", lambda: rans_python.Coder)
    with pytest.raises(ConfigError, match="install a C compiler"):
        next(methods(workload(50, 0.7, np.random.default_rng(2))))


def test_a_coder_that_gives_back_something_else_is_not_measured() -> None:
    load = workload(50, 0.7, np.random.default_rng(2))
    with pytest.raises(ConfigError, match="liar decodes to other values"):
        measure(Method("liar", lambda values: values.tobytes(), lambda _: load.tensors[0] + 1), load)


@pytest.mark.parametrize(("count", "zeros"), ZEROS.items())
def test_levels_have_about_the_stated_share_of_zeros(count: int, zeros: float) -> None:
    load = workload(count, zeros, np.random.default_rng(2))
    found = np.mean([(tensor == 0).mean() for tensor in load.tensors])
    assert abs(found - zeros) < 4 * np.sqrt(zeros * (1 - zeros) / (2 * count))


def test_lanes_grow_with_the_root_of_the_size() -> None:
    assert [lanes_for(count) for count in (1, 50, 392, 15_680, 150_000)] == [1, 1, 2, 16, 64]


@pytest.mark.parametrize("count", [1, 7, 391])
def test_lanes_carry_levels_that_no_table_has(count: int) -> None:
    load = workload(count, 0.7, np.random.default_rng(2))
    coder = LaneCoder(load.index, load.tables)
    values = np.arange(-count * 40, count * 40, 80, dtype=np.float32)
    assert coder.decode(coder.encode(values)).tolist() == values.tolist()


def test_targets_compare_our_rows() -> None:
    rows = [
        {"values": count, "coder": name, "bytes": bytes_, "over": 2.0, "encode_us": 1.0, "decode_us": 1.0}
        for count in ZEROS
        for name, bytes_ in (("rANS in C", 12.0), ("rANS in Python", 12.0), ("code length", 10.0))
    ]
    assert [target.value for target in targets(rows, 3)] == [1.0, 1.0, 1.0, 2.0, 0.0, 3]
    assert all(target.ok for target in targets(rows, 3))
    assert not targets(rows, 20)[-1].ok


def test_the_coder_that_counts_agrees_with_the_one_that_codes() -> None:
    load = workload(392, 0.8, np.random.default_rng(2))
    coder = EntropyCoder(load.index, load.tables)
    own = [row["bytes"] for row in rans_constants.rows(load.index, load.counted, load.tensors)][-1]
    assert rans_constants.CHOICES[-1] == rans_constants.Constants(15, 24, 16)
    assert abs(own - np.mean([len(coder.encode(tensor)) for tensor in load.tensors])) <= 1


def test_damaged_payloads_pass_only_without_the_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy, "_TRIES", 300)
    monkeypatch.setattr(entropy, "_FEW_TRIES", 4000)
    monkeypatch.setattr(entropy, "_TENSORS", 40)
    row = damage(workload(50, 0.7, np.random.default_rng(2), fitted=4000), np.random.default_rng(3))
    assert list(row.values())[2:5] == [0, 0, 0]
    assert row["flipped, no checksum, of 4000"] > 0
