"""The tail half over real torch programs: equal to the unsplit model, strict about what it loads."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_worker.compute import ComputeThread
from cloud_worker.tails import Frame, NoOpTail, SplitTail, load_tail
from schemas.bundle import FULL, HEAD_NUMPY, TAIL
from schemas.bundle_files import Bundle
from schemas.codecs import open_codec
from schemas.errors import BundleError, DecodeError, DigestError, TensorError, UntrustedError
from schemas.messages import Answer
from schemas.tensor import Array
from tests.bundles import (
    AFFINE_POINT,
    CUT,
    INPUT_POINT,
    LABELS,
    MINMAX_POINT,
    export_program,
    make_bundle,
    samples,
    tiny_pair,
)

MAX_BATCH = 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def thread() -> Iterator[ComputeThread]:
    with ComputeThread() as running:
        yield running


@pytest.fixture
async def tail(bundle: Bundle, thread: ComputeThread) -> SplitTail:
    return await load_tail(bundle, thread, max_batch=MAX_BATCH, trusted=True)


def encode(bundle: Bundle, point_id: int, sample: Array) -> bytes:
    point = bundle.manifest.point(point_id)
    assert point is not None
    tensor = sample if point.part == "full" else tiny_pair().cut(sample)
    return bundle.codec(point).encode(tensor)


def frame(bundle: Bundle, point_id: int, *payloads: bytes) -> Frame:
    point = bundle.manifest.point(point_id)
    assert point is not None
    return Frame(point, payloads)


def expected(sample: Array, temperature: float) -> tuple[int, float]:
    """Label and confidence of the unsplit model."""
    logits = tiny_pair().logits(tiny_pair().cut(sample)).astype(np.float64) / temperature
    powers = np.exp(logits - logits.max())
    return int(powers.argmax()), float(powers.max() / powers.sum())


@pytest.mark.parametrize(
    ("point", "temperature", "tolerance"),
    [(AFFINE_POINT, 1.5, 0.01), (MINMAX_POINT, 1.5, 0.01), (INPUT_POINT, 1.0, 1e-5)],
)
async def test_split_answers_are_those_of_the_unsplit_model(
    bundle: Bundle, tail: SplitTail, point: int, temperature: float, tolerance: float
) -> None:
    images = samples(7, seed=5)
    bursts = [images[:1], images[1:4], images[4:]]
    frames = [frame(bundle, point, *(encode(bundle, point, image) for image in burst)) for burst in bursts]
    result = await tail.run("full" if point == INPUT_POINT else "tail", frames)
    assert [len(answers) for answers in result.frames if isinstance(answers, tuple)] == [1, 3, 3]
    answers = [answer for each in result.frames if isinstance(each, tuple) for answer in each]
    for image, answer in zip(images, answers, strict=True):
        label, confidence = expected(image, temperature)
        assert answer.label == label
        assert answer.confidence == pytest.approx(confidence, abs=tolerance)
    assert result.compute_s > 0


async def test_points_of_one_part_run_in_one_batch(bundle: Bundle, tail: SplitTail) -> None:
    image = samples(1)[0]
    frames = [frame(bundle, point, encode(bundle, point, image)) for point in (AFFINE_POINT, MINMAX_POINT)]
    result = await tail.run("tail", frames)
    one, other = result.frames
    assert isinstance(one, tuple)
    assert isinstance(other, tuple)
    assert one[0].label == other[0].label == expected(image, 1.5)[0]


async def test_a_payload_that_does_not_decode_fails_alone(bundle: Bundle, tail: SplitTail) -> None:
    good = encode(bundle, MINMAX_POINT, samples(1)[0])
    frames = [
        frame(bundle, MINMAX_POINT, good),
        frame(bundle, MINMAX_POINT, good, good[:-1]),
        frame(bundle, AFFINE_POINT, b""),
        frame(bundle, MINMAX_POINT, good, good),
    ]
    first, second, third, fourth = (await tail.run("tail", frames)).frames
    assert isinstance(second, DecodeError)
    assert isinstance(third, DecodeError)
    assert isinstance(first, tuple)
    assert isinstance(fourth, tuple)
    assert fourth == (*first, *first)


async def test_a_batch_of_nothing_but_bad_frames_is_no_batch(bundle: Bundle, tail: SplitTail) -> None:
    (only,) = (await tail.run("tail", [frame(bundle, MINMAX_POINT, b"x")])).frames
    assert isinstance(only, DecodeError)


async def test_values_that_overflow_the_model_fail_alone(bundle: Bundle, tail: SplitTail) -> None:
    huge = open_codec("minmax_u8", bundle.manifest.cut, {}).encode(np.full(CUT, 3e38, np.float32))
    good = encode(bundle, MINMAX_POINT, samples(1)[0])
    bad, fine = (await tail.run("tail", [frame(bundle, MINMAX_POINT, huge), frame(bundle, MINMAX_POINT, good)])).frames
    assert isinstance(bad, TensorError)
    assert isinstance(fine, tuple)


async def test_it_computes_on_its_own_thread_with_the_threads_it_was_given(
    bundle: Bundle, thread: ComputeThread
) -> None:
    await load_tail(bundle, thread, max_batch=1, trusted=True, threads=2)
    assert await thread.call(torch.get_num_threads) == 2
    assert await thread.call(threading.current_thread) is not threading.current_thread()
    await load_tail(bundle, thread, max_batch=1, trusted=True)
    assert await thread.call(torch.get_num_threads) == 1


async def test_nothing_is_loaded_without_trust(bundle: Bundle, thread: ComputeThread) -> None:
    with pytest.raises(UntrustedError, match="--trust-unsigned"):
        await load_tail(bundle, thread, max_batch=1, trusted=False)


@pytest.mark.parametrize("name", [TAIL, HEAD_NUMPY])
async def test_a_changed_file_is_refused_before_it_is_opened(tmp_path: Path, thread: ComputeThread, name: str) -> None:
    bundle = make_bundle(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(bytes(data))
    with pytest.raises(DigestError):
        await load_tail(bundle, thread, max_batch=1, trusted=True)


async def test_full_is_loaded_only_where_a_point_needs_it(tmp_path: Path, thread: ComputeThread) -> None:
    points = make_bundle(tmp_path / "both").manifest.points
    bundle = make_bundle(tmp_path / "tail", files={FULL: b"not read"}, fields={"points": points[:2]})
    await load_tail(bundle, thread, max_batch=1, trusted=True)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"no program", "cannot load tail.pt2"),
        (lambda: export_program(tiny_pair().tail, CUT, max_batch=1), "does not take a batch of 4"),
        (lambda: export_program(torch.nn.Conv2d(4, 2, 1), CUT), r"gives float32\[1, 2, 4, 4\]"),
        (lambda: export_program(torch.nn.Flatten(), (1, 8, 8)), "does not take a batch of 1"),
    ],
)
async def test_a_program_that_is_not_the_manifests_is_refused(
    tmp_path: Path, thread: ComputeThread, contents: object, message: str
) -> None:
    data = contents if isinstance(contents, bytes) else contents()  # type: ignore[operator]
    bundle = make_bundle(tmp_path, files={TAIL: data})
    with pytest.raises(BundleError, match=message):
        await load_tail(bundle, thread, max_batch=MAX_BATCH, trusted=True)


async def test_noop_answers_every_payload(bundle: Bundle) -> None:
    tail = NoOpTail(bundle.manifest)
    result = await tail.run("tail", [frame(bundle, AFFINE_POINT, b"a", b"b"), frame(bundle, AFFINE_POINT, b"c")])
    sure = Answer(label=0, confidence=1.0)
    assert result.frames == ((sure, sure), (sure,))
    assert len(LABELS) == len(bundle.manifest.labels)


def test_frames_are_immutable(bundle: Bundle) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame(bundle, AFFINE_POINT, b"a").payloads = ()  # type: ignore[misc]
