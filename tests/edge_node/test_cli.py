"""What `edge-node run` says of what it cannot use: one clear line, exit code 2, never a traceback."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from broker.address import BrokerAddress
from broker.engines import start_broker
from broker.engines.ports import hold_port
from broker.link import Link, LinkConfig
from broker.presence import Announcer
from edge_node.__main__ import main
from edge_node.node import NodeConfig, announcer_of
from schemas.bundle_files import Bundle
from schemas.topics import Topics
from tests.bundles import make_bundle, samples, tiny_manifest
from tests.edge_node.commands import LIMIT_S, finish, run, started

NOT_AUTHORIZED = b"\x20\x03\x00\x87\x00"
"""CONNACK of MQTT 5 with reason code 0x87."""


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arrays") / "three.npy"
    np.save(path, samples(3))
    return path


@pytest.fixture
def copy(tiny: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.path, tmp_path / "copy"))


async def test_a_head_that_is_not_the_manifests(copy: Path, array: Path) -> None:
    head = copy / "head.npz"
    changed = bytearray(head.read_bytes())
    changed[100] ^= 1
    head.write_bytes(changed)
    ended = await run("--bundle", copy, "--source", array)
    ended.check_clear("head.npz", "SHA-256", "fetch the bundle again")


async def test_a_head_that_is_not_there(copy: Path, array: Path) -> None:
    (copy / "head.npz").unlink()
    (await run("--bundle", copy, "--source", array)).check_clear("head.npz is missing")


async def test_a_cut_of_another_shape_in_the_manifest(tmp_path: Path, array: Path) -> None:
    points = [{"id": 1, "part": "tail", "codec": "minmax_u8"}]
    bundle = make_bundle(tmp_path, fields={"cut": {"dtype": "float32", "shape": (4, 4, 5)}, "points": points})
    ended = await run("--bundle", bundle.path, "--source", array)
    ended.check_clear("[4, 4, 4]", "the manifest names float32 [4, 4, 5]")


async def test_a_manifest_changed_by_hand(copy: Path, array: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["labels"][0] = "circle"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (await run("--bundle", copy, "--source", array)).check_clear("interface", "rebuild the bundle")


async def test_paths_that_are_not_there(tiny: Bundle, array: Path) -> None:
    no_bundle, no_source = await asyncio.gather(
        run("--bundle", "/nowhere/bundle", "--source", array), run("--bundle", tiny.path, "--source", "/nowhere/images")
    )
    no_bundle.check_clear("there is no bundle at /nowhere/bundle")
    no_source.check_clear("there is no file or folder at /nowhere/images")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--source", "x"], "run needs --bundle"),
        (["--bundle", "x"], "run needs --source"),
        (["--shard", "5/4"], "'5/4' is not a shard"),
        (["--privacy", "secret"], "--privacy: 'secret' is not a valid PrivacyLevel"),
        (["--deadline-ms", "0"], "--deadline-ms"),
        (["--count", "-1"], "--count"),
        (["--id", "a/b"], "node id 'a/b' cannot be a topic level"),
        (["--max-ssim", "1.1"], "--max-ssim: '1.1' is not a number from 0 to 1"),
        (["--route", "moon"], "none of auto, edge, cloud, hybrid"),
    ],
)
def test_options_that_cannot_be_used(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("edge-node: error: ")
    assert words in said
    assert len(said.splitlines()) == 1


async def test_a_broker_address_that_is_none(tiny: Bundle, array: Path) -> None:
    ended = await run("--bundle", tiny.path, "--source", array, "--broker", "mqtt://user:secret@host:no")
    ended.check_clear("broker URL")
    assert "secret" not in ended.err


async def test_a_broker_that_is_not_there(tiny: Bundle, array: Path) -> None:
    with hold_port("127.0.0.1", 0) as port:
        url = f"mqtt://127.0.0.1:{port}"
        ended = await run("--bundle", tiny.path, "--source", array, "--broker", url, "--connect-timeout", "0.5")
    ended.check_clear(f"no connection to {url} within 0.5 s", "start a broker there")


async def test_offline_ok_answers_from_the_edge_until_the_broker_is_there(tiny: Bundle, array: Path) -> None:
    with hold_port("127.0.0.1", 0) as port:
        url = f"mqtt://127.0.0.1:{port}"
        ended = await run("--bundle", tiny.path, "--source", array, "--broker", url, "--offline-ok")
    assert ended.code == 0
    assert len(ended.lines) == 3
    assert "fallback_edge: the link to the broker is down" in ended.out
    assert "not connected to the broker: " in ended.err
    assert "; answering from the edge until that changes" in ended.err


async def test_offline_ok_says_that_the_broker_refuses(tiny: Bundle, array: Path) -> None:
    async with refusing() as url:
        ended = await run("--bundle", tiny.path, "--source", array, "--broker", url, "--offline-ok")
    assert ended.code == 0
    assert len(ended.lines) == 3
    (line,) = [line for line in ended.err.splitlines() if "answering from the edge" in line]
    assert "not connected to the broker: the broker refused to accept" in line
    assert "Not authorized" in line


async def test_a_broker_without_workers_is_said_to_be_one(tiny: Bundle, array: Path) -> None:
    async with start_broker() as broker:
        ended = await run("--bundle", tiny.path, "--source", array, "--broker", broker.url)
    assert ended.code == 0
    assert "WARNING edge_node.stream: no live worker serves tiny 1.0 with this interface; answering" in ended.err


async def test_a_limit_on_ssim_that_few_samples_vouch_for_is_said_to_be_none(tmp_path: Path, array: Path) -> None:
    point = tiny_manifest().points[0].model_dump()
    points = [
        {**point, "id": number, "leakage": {"ssim": ssim, "samples": count}}
        for number, (ssim, count) in enumerate([(0.2, 40), (0.2, 400), (0.9, 40)])
    ]
    bundle = make_bundle(tmp_path, fields={"points": points})
    options = ("--bundle", bundle.path, "--source", array)
    limited, free = await asyncio.gather(run(*options, "--max-ssim", "0.5"), run(*options))
    assert (limited.code, free.code) == (0, 0)
    (line,) = [line for line in limited.err.splitlines() if "bounds nothing" in line]
    assert "point 0 is within --max-ssim, but its SSIM was measured with 40 samples" in line
    assert "max-ssim" not in free.err


@asynccontextmanager
async def refusing() -> AsyncIterator[str]:
    """A broker that lets nobody in."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(NOT_AUTHORIZED)
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_broker_that_refuses(tiny: Bundle, array: Path) -> None:
    async with refusing() as url:
        ended = await run("--bundle", tiny.path, "--source", array, "--broker", url)
    ended.check_clear("the broker refused to accept", "Not authorized", "check the user name")


async def test_the_environment_says_what_the_command_line_leaves_out(tiny: Bundle, array: Path) -> None:
    ended = await run("--source", array, SPLITBUS_BUNDLE=str(tiny.path), SPLITBUS_ID="from-env", SPLITBUS_JSON="1")
    assert {json.loads(line)["node"] for line in ended.lines} == {"from-env"}


async def test_a_second_ctrl_c_ends_at_once_what_the_first_lets_finish(tiny: Bundle, array: Path) -> None:
    """A worker that is alive by its presence and never answers, and a request that has an hour."""
    options = ("--bundle", tiny.path, "--source", array, "--route", "cloud", "--deadline-ms", "3600000")
    mute = Announcer("worker", "mute", announcer_of(tiny, NodeConfig("cam-1")).serves, Topics())
    async with (
        start_broker() as broker,
        Link(LinkConfig(BrokerAddress.parse(broker.url), "mute"), mute) as link,
        link.subscribe("sb/w/#") as frames,
        started(*options, "--broker", broker.url) as process,
        asyncio.timeout(LIMIT_S),
    ):
        frame = await anext(aiter(frames))
        process.send_signal(signal.SIGINT)
        for _ in range(2):  # it is still at it
            again = await anext(aiter(frames))
            assert again.message.correlation == frame.message.correlation
        assert process.returncode is None
        process.send_signal(signal.SIGINT)
        assert (await finish(process)).code == 130
