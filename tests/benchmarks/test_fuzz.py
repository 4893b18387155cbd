"""The fuzzer makes what it says, and sees a decoder that crashes, hangs, raises or allocates."""

from __future__ import annotations

import argparse
import functools
import random

import pytest

from benchmarks import fuzz
from benchmarks.children import ChildFailedError
from benchmarks.fuzz import photo_tables, rows, run, shared_out, targets
from benchmarks.fuzz_children import TRACED_EVERY, Job
from benchmarks.fuzz_payloads import KINDS, Pool, mended, payload, truncations
from benchmarks.fuzz_subjects import Subject, open_subjects, pools
from benchmarks.fuzz_watch import watch_over
from schemas.codecs import CODECS
from schemas.errors import ConfigError, DecodeError
from tests.benchmarks import naughty

POOL = Pool((bytes(range(50)), bytes(range(100, 130))), (b"sibling",), (b"stranger",))
TAME = Pool((bytes(8),), (bytes(8),), (bytes(8),))
NAUGHTY = Pool((naughty.WHOLE,), (naughty.WHOLE,), (naughty.WHOLE,))


@functools.cache
def tables() -> bytes:
    return photo_tables(1)


@functools.cache
def committed() -> tuple[list[Subject], list[Pool]]:
    subjects = open_subjects(tables())
    return subjects, pools(subjects, 1)


def naughty_job(**changes: object) -> Job:
    return Job(naughty.subjects, [TAME, NAUGHTY], [16, 16], 1, 0, 1)._replace(**changes)  # type: ignore[arg-type]


def test_the_first_valid_payload_is_cut_off_at_every_place_where_there_is_room() -> None:
    made = [payload(POOL, "1", index, 200) for index in range(truncations(POOL, 200))]
    assert made == [POOL.own[0][:place] for place in range(50)]


def test_where_there_is_no_room_the_cuts_are_spread_over_the_payload() -> None:
    lengths = [len(payload(POOL, "1", index, 20)) for index in range(truncations(POOL, 20))]
    assert lengths == [index * 50 // 15 for index in range(15)]


def test_the_same_key_and_index_give_the_same_bytes_and_others_give_others() -> None:
    def made(key: str) -> list[bytes]:
        return [payload(POOL, key, index, 400) for index in range(50, 400)]

    assert made("1 0") == made("1 0")
    assert sum(one != other for one, other in zip(made("1 0"), made("2 0"), strict=True)) > 300
    assert max(map(len, made("1 0"))) > 10_000


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_bytes_that_are_not_all_valid(kind: str) -> None:
    made = [KINDS[kind](random.Random(seed), POOL) for seed in range(50)]
    assert len(set(made) - set(POOL.own)) > 3


def test_every_codec_is_there_and_decodes_what_its_pool_holds() -> None:
    subjects, made = committed()
    assert {subject.codec.id for subject in subjects} == set(CODECS)
    assert len({subject.name for subject in subjects}) == len(subjects)
    for subject, pool in zip(subjects, made, strict=True):
        for data in pool.own:
            subject.spec.check(subject.codec.decode(data))


@pytest.mark.parametrize("name", ["input format png uint8[28, 28, 1]", "input format webp uint8[28, 28, 1]"])
def test_a_mended_file_says_its_own_checksums_and_length(name: str) -> None:
    subject, pool = next(pair for pair in zip(*committed(), strict=True) if pair[0].name == name)
    whole = pool.own[0]
    start = 29 if subject.format == "png" else 4
    wrong = whole[:start] + bytes(4) + whole[start + 4 :]
    with pytest.raises(DecodeError):
        subject.codec.decode(wrong)
    assert mended(subject.format, wrong) == mended(subject.format, whole) == whole


def test_shares_add_up() -> None:
    assert shared_out([60, 40, 30], 1000) == [461, 308, 231]
    assert sum(shared_out([7, 11, 13], 100)) == 100


def test_a_crash_a_hang_and_other_exceptions_are_counted_each_with_its_payload() -> None:
    job = naughty_job()
    (watch,) = watch_over([job])
    tame, found = rows(naughty.subjects(), job.pools, job.counts, [watch])
    assert {name: found[name] for name in ("payloads", "crashes", "hangs", "others", "refused")} == {
        "payloads": 16,
        "crashes": 1,
        "hangs": 1,
        "others": 2,
        "refused": 1,
    }
    assert (tame["payloads"], tame["arrays"]) == (16, 16)
    assert [each.payload for each in watch.failures] == [b"ab", b"abc", b"abcd", b"abcde"]
    facts = [str(each) for each in watch.failures]
    assert facts[0] == "the process ended with code 7; payload: 6162"
    assert "no end after 1 s" in facts[1]
    assert "ValueError: no place for this" in facts[2]
    assert "TensorError" in facts[3]
    missed = {target.name for target in targets([tame, found], [(0, 0)], 32) if not target.ok}
    assert missed == {"crashes", "hangs", "exceptions other than DecodeError"}


def test_a_decode_that_allocates_too_much_misses_the_target() -> None:
    job = naughty_job(first=16 + naughty.WHOLE.index(b"g"), step=TRACED_EVERY)
    (watch,) = watch_over([job])
    found = rows(naughty.subjects(), job.pools, job.counts, [watch])
    assert found[1]["peak_bytes"] >= 1 << 20
    assert [each.name for each in targets(found, [(0, 40 << 20)], 1) if not each.ok] == [
        "tensors allocated beyond 64 KiB, tensor codecs",
        "peak RSS of a process, MB above warm",
    ]


def test_a_child_that_never_begins_is_an_error() -> None:
    with pytest.raises(ChildFailedError, match="code 3 before its first payload"):
        watch_over([naughty_job(open_subjects=naughty.ends_at_once)])


async def test_two_thousand_payloads_hit_every_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "photo_tables", lambda _: tables())
    monkeypatch.setattr(fuzz, "pools", lambda *_: committed()[1])
    report = await run(argparse.Namespace(payloads=2000, seed=1))
    assert [target for target in report.targets if not target.ok] == []
    assert sum(row["payloads"] for row in report.rows) == 2000
    assert all(row["refused"] and row["peak_bytes"] for row in report.rows)
    assert sum(row["arrays"] for row in report.rows) > 100


async def test_no_payloads_are_refused() -> None:
    with pytest.raises(ConfigError, match="give 1 or more"):
        await fuzz.run(argparse.Namespace(payloads=0, seed=1))
