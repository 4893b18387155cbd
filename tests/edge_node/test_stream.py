"""`edge-node run` over folders and arrays, without a broker: what is streamed, counted, limited and stopped."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from broker.options import read_options
from edge_node.__main__ import build_parser
from edge_node.node import EdgeNode, NodeConfig
from edge_node.options import OPTIONS
from edge_node.sources import Sample, Source, open_source
from edge_node.stream import _Streamer, stream
from schemas.bundle_files import Bundle
from schemas.messages import Outcome
from tests.bundles import LABELS, samples
from tests.edge_node.commands import finish, read_lines, run, started
from tests.virtual_time import run_virtually

COUNT = 10


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arrays") / "ten.npy"
    np.save(path, samples(COUNT))
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, pixels in enumerate(samples(4)):
        Image.fromarray(pixels[:, :, 0]).save(folder / f"{number}_{LABELS[number]}.png")
    return folder


async def test_every_sample_is_one_json_line_and_the_summary_counts(tiny: Bundle, array: Path) -> None:
    ended = await run("--bundle", tiny.path, "--source", array, "--json", "--concurrency", "4", "--id", "cam-9")
    assert ended.code == 0, ended
    rows = [json.loads(line) for line in ended.lines]
    assert sorted(row["sample"] for row in rows) == [f"ten.npy[{index}]" for index in range(COUNT)]
    outcomes = [Outcome.model_validate(row) for row in rows]
    assert len({outcome.request for outcome in outcomes}) == COUNT
    assert {(each.node, each.source, each.route) for each in outcomes} == {("cam-9", "edge", "fallback_edge")}
    ready, summary = ended.err.splitlines()
    worth = 'exit="not certified; sure from 0.9 on"'
    assert ready == f"ready id=cam-9 runtime=numpy interface={tiny.manifest.interface[:16]} {worth}"
    assert summary == "edge-node: 10 answered, 10 from edge"


async def test_labels_in_names_give_the_share_that_is_right(tiny: Bundle, images: Path) -> None:
    ended = await run("--bundle", tiny.path, "--source", images, "--json")
    rows = [json.loads(line) for line in ended.lines]
    assert [row["truth"] for row in rows] == [0, 1, 2, 3]
    right = sum(row["label"] == row["truth"] for row in rows)
    assert ended.err.splitlines()[-1] == f"edge-node: 4 answered, 4 from edge, {25 * right:.1f} % right"


async def test_an_unreadable_image_is_said_and_counted_and_the_rest_goes_on(tiny: Bundle, images: Path) -> None:
    (images / "1_bar.png").write_bytes(b"no image")
    whole = (images / "2_dot.png").read_bytes()
    (images / "2_dot.png").write_bytes(whole[: len(whole) // 2])
    ended = await run("--bundle", tiny.path, "--source", images)
    assert ended.code == 2
    assert [line.split()[0] for line in ended.lines] == ["0_ring.png", "3_blank.png"]
    skipped = [line for line in ended.err.splitlines() if line.startswith("edge-node: skipped: ")]
    assert [line.split()[2] for line in skipped] == ["1_bar.png", "2_dot.png"]
    summary, verdict = ended.err.splitlines()[-2:]
    assert "2 answered, 2 from edge, 2 unreadable" in summary
    assert verdict == "edge-node: error: 2 of 4 samples could not be read; each was named when skipped"


async def test_reading_a_sample_does_not_hold_up_the_loop(tiny: Bundle, array: Path) -> None:
    """Neither the requests under way nor a signal wait for a large image to be decoded."""
    begun, go_on = asyncio.Event(), threading.Event()
    loop, whole = asyncio.get_running_loop(), open_source(array, tiny.manifest.sample)

    def load(index: int) -> Sample:
        loop.call_soon_threadsafe(begun.set)
        if not go_on.wait(20):
            pytest.fail("the loop stood still meanwhile")
        return whole.load(index)

    async def release() -> None:
        await begun.wait()
        go_on.set()

    options = options_of(tiny, array, "--count", "2")
    with ThreadPoolExecutor(1) as loader:
        async with EdgeNode(tiny, NodeConfig("cam-1")) as node, asyncio.TaskGroup() as tasks:
            tasks.create_task(release())
            summary = await _Streamer(node, options, asyncio.Event(), loader).run(Source(COUNT, load))
    assert (summary.ended, summary.bad) == (2, 0)


async def test_told_to_stop_before_it_began_it_begins_nothing(
    tiny: Bundle, array: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = asyncio.Event()
    stop.set()
    await stream(options_of(tiny, array, "--broker", "mqtt://127.0.0.1:1", "--connect-timeout", "30"), stop)
    assert capsys.readouterr().out == ""


async def test_people_read_label_confidence_source_and_reason(tiny: Bundle, array: Path) -> None:
    ended = await run("--bundle", tiny.path, "--source", array, "--count", "1", "--privacy", "restricted")
    (line,) = ended.lines
    name, label, confidence, source = line.split()[:4]
    assert (name, label in LABELS, 0.25 <= float(confidence) <= 1, source) == ("ten.npy[0]", True, True, "edge")
    assert "0 B up  edge_only: restricted: never leaves the device; exit " in line
    assert line.endswith("(threshold 0.9, not certified)")


@pytest.mark.parametrize(
    ("options", "indices"),
    [
        (("--count", "3"), [0, 1, 2]),
        (("--shard", "2/4"), [1, 5, 9]),
        (("--shard", "4/4", "--count", "1"), [3]),
        (("--repeat", "--count", "12"), [*range(10), 0, 1]),
        (("--repeat", "--shard", "3/5", "--count", "5"), [2, 7, 2, 7, 2]),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else None,
)
def test_count_shard_and_repeat(
    tiny: Bundle, array: Path, options: tuple[str, ...], indices: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    run_virtually(streamed(tiny, array, *options))
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == [f"ten.npy[{index}]" for index in indices]


@pytest.mark.parametrize(("rate", "least_s"), [("0.01", 800), ("20", 0.39)])
def test_the_rate_is_a_limit(tiny: Bundle, array: Path, rate: str, least_s: float) -> None:
    assert run_virtually(streamed(tiny, array, "--rate", rate, "--count", "9")) >= least_s


async def streamed(bundle: Bundle, source: Path, *options: str) -> float:
    """Stream in this process; the loop's clock at the end."""
    await stream(options_of(bundle, source, *options), asyncio.Event())
    return asyncio.get_running_loop().time()


def options_of(bundle: Bundle, source: Path, *options: str) -> dict[str, Any]:
    given = build_parser().parse_args(["run", "--bundle", str(bundle.path), "--source", str(source), *options])
    return read_options(OPTIONS, given, {})


@pytest.mark.parametrize(
    ("number", "pace"),
    [(signal.SIGTERM, ()), (signal.SIGTERM, ("--rate", "0.5")), (signal.SIGINT, ())],
    ids=["term", "term while waiting", "int"],
)
async def test_a_signal_ends_an_endless_stream_with_its_summary(
    tiny: Bundle, array: Path, number: signal.Signals, pace: tuple[str, ...]
) -> None:
    async with started("--bundle", tiny.path, "--source", array, "--repeat", *pace) as process:
        before = await read_lines(process, 1)
        process.send_signal(number)
        ended = await finish(process)
    assert ended.code == 0
    count = len(before) + len(ended.lines)
    assert ended.err.splitlines()[-1] == f"edge-node: {count} answered, {count} from edge"


async def test_a_reader_that_leaves_ends_it_quietly(tiny: Bundle, array: Path) -> None:
    async with started("--bundle", tiny.path, "--source", array, "--repeat", "--json") as process:
        await read_lines(process, 1)
        assert process.stdout is not None
        process.stdout._transport.close()  # type: ignore[attr-defined]
        ended = await finish(process)
    assert ended.code == 0
    assert len(ended.err.splitlines()) == 2
    assert "answered" in ended.err
