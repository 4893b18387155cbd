"""docs/protocol.md and docs/bundle.md say what the code does: examples decode, tables are whole, the client works."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from broker.address import BrokerAddress
from broker.engines import start_broker
from broker.link import Link, LinkConfig
from broker.presence import Announcer
from cloud_worker.compute import ComputeThread
from cloud_worker.tails import load_tail
from cloud_worker.worker import Worker, served
from schemas import messages, wire
from schemas.bundle import Exit, FileEntry, Manifest, OperatingPoint, Profile, canonical_json, parse_manifest
from schemas.certificate import Certificate
from schemas.codecs import CODECS, open_codec
from schemas.codecs.tables import pack_tables
from schemas.leakage import Leakage
from schemas.messages import PresenceState, Status
from schemas.policy import PrivacyLevel, Route
from schemas.preprocess import Preprocess
from schemas.tensor import TensorSpec
from schemas.topics import Topics
from tests.bundles import INPUT_POINT, LABELS, make_bundle, samples
from tests.golden.store import FOLDER, read_index
from tests.schemas.samples import DECODERS, plain

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / name).read_text() for name in ("protocol.md", "bundle.md")}
PAGE = "\n".join(PAGES.values())
BLOCKS = {
    (kind, name): text
    for kind, name, text in re.findall(r"^```(\w+) ([^\n]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
}
HEX = {name: text for (kind, name), text in BLOCKS.items() if kind == "hex"}
MANIFEST = parse_manifest(BLOCKS["json", "manifest"].encode())
MODELS: list[type[BaseModel]] = [
    messages.Answer, messages.Presence, messages.Served, messages.Stats, messages.DeadLetter, messages.Outcome,
    messages.Scores, messages.StageTimes, Manifest, OperatingPoint, Leakage, Exit, Profile, FileEntry, TensorSpec,
    Preprocess, Certificate,
]  # fmt: skip


def octets(name: str) -> bytes:
    """The bytes of a hex block: each line's digits, up to where two spaces begin the remark."""
    return b"".join(bytes.fromhex(re.split(r"\s{2,}", line)[0]) for line in HEX[name].splitlines())


def told(name: str) -> Any:
    return json.loads(BLOCKS["json", name])


def rows(head: str) -> list[list[str]]:
    """The cells below the table whose first header cell is `head`."""
    table = re.search(rf"^\| {re.escape(head)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table is not None, f"there is no table {head}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table[1].splitlines()]


GOLDEN_EXAMPLES = [name for name in HEX if name.endswith(".bin")]


@pytest.mark.parametrize("name", GOLDEN_EXAMPLES)
def test_a_hex_example_is_its_golden_file_and_decodes_to_what_the_page_says(name: str) -> None:
    assert octets(name) == (FOLDER / name).read_bytes()
    assert plain(DECODERS[read_index()[name]["message"]](octets(name))) == told(name)


def test_work_reply_and_a_map_have_examples() -> None:
    assert {read_index()[name]["message"] for name in GOLDEN_EXAMPLES} >= {"Work", "Reply", "Presence"}


@pytest.mark.parametrize("point", [0, 1])
def test_a_codec_example_encodes_and_decodes(point: int) -> None:
    codec = open_codec(MANIFEST.points[point].codec, MANIFEST.cut, MANIFEST.points[point].config)
    array = np.array(told(f"codec {point}"), np.float32).reshape(MANIFEST.cut.shape)
    assert codec.encode(array) == octets(f"codec {point}")
    assert codec.decode(octets(f"codec {point}")).tolist() == array.tolist()


def test_the_example_of_codec_tables() -> None:
    tables = {"a": np.array([[1.5]], np.float32), "b": np.array([1, -1], np.int16)}
    assert pack_tables(tables) == octets("tables")


def test_every_codec_has_a_section() -> None:
    assert set(re.findall(r"^### (\w+)$", PAGE.partition("## Codecs")[2].partition("\n## ")[0], re.MULTILINE)) == set(
        CODECS
    )


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_table_names_every_field_and_nothing_else(model: type[BaseModel]) -> None:
    assert [row[0].strip("`") for row in rows(model.__name__)] == list(model.model_fields)


@pytest.mark.parametrize("model", [messages.Work, messages.Reply], ids=lambda model: model.__name__)
def test_the_items_of_an_array_are_all_named_in_order(model: type[BaseModel]) -> None:
    section = PAGE.partition(f"\n## {model.__name__}\n")[2].partition("\n##")[0]
    items = re.findall(r"^\| (\d) (?:`(\w+)` )?\|", section, re.MULTILINE)
    assert items == [("0", ""), *((str(number + 1), name) for number, name in enumerate(model.model_fields))]


def test_every_status_is_in_its_table() -> None:
    assert [(int(row[0]), row[1]) for row in rows("status")] == [(each.value, each.name.lower()) for each in Status]


def test_every_word_of_a_closed_set_is_named() -> None:
    assert [word for kind in (PresenceState, Route, PrivacyLevel) for word in kind if f"`{word}`" not in PAGE] == []


def test_the_caps_are_the_codes() -> None:
    caps = {row[0]: int(row[1]) for row in rows("cap")}
    assert caps == {name: getattr(wire, name) for name in caps}
    assert set(caps) == {"MAX_FRAME_BYTES", "MAX_CONTROL_BYTES", "MAX_BURST", "MAX_ITEMS"}


def test_the_topics_are_the_codes() -> None:
    topics = Topics()
    built = [
        topics.work("{model}", "{line}", "{node}"),
        topics.reply("{node}"),
        topics.presence("{kind}", "{id}"),  # type: ignore[arg-type]
        topics.stats("{kind}", "{id}"),  # type: ignore[arg-type]
        topics.outcome("{node}", "{model}"),
        topics.dead_letter("{reason}"),
    ]
    assert [row[0].strip("`") for row in rows("topic")] == built
    assert f"`{topics.work_shared('{model}', '{line}')}`" in PAGE


def test_the_worked_interface_digest() -> None:
    line = BLOCKS["json", "canonical"].strip()
    assert canonical_json(json.loads(line)).decode() == line
    assert hashlib.sha256(line.encode()).hexdigest() == MANIFEST.interface == BLOCKS["text", "interface"].strip()


def test_the_worked_pixel() -> None:
    pixel = MANIFEST.preprocess.apply(np.full(MANIFEST.sample.shape, 191, np.uint8))
    assert f"the pixel 191 becomes {pixel.flat[0]:.8f}" in PAGE.replace("\n", " ")


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", sorted(path.name for path in DOCS.glob("*.md")))
def test_links_between_pages_and_within_one_lead_somewhere(name: str) -> None:
    for target, _, anchor in (
        link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", (DOCS / name).read_text()) if "://" not in link
    ):
        page = DOCS / (target or name)
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), f"{target}#{anchor}"


async def test_the_client_on_the_page_gets_the_answer_of_a_worker(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    script, image = tmp_path / "client.py", tmp_path / "sample.webp"
    script.write_text(BLOCKS["python", "client.py"])
    point = bundle.manifest.point(INPUT_POINT)
    assert point is not None
    image.write_bytes(bundle.codec(point).encode(samples(1)[0]))
    stop, ready = asyncio.Event(), asyncio.Event()
    with ComputeThread() as thread:
        tails = [await load_tail(bundle, thread, max_batch=4, trusted=True)]
        announcer = Announcer("worker", "w1", served(tails), Topics())
        async with (
            start_broker() as broker,
            Link(LinkConfig(BrokerAddress.parse(broker.url), "worker-w1"), announcer) as link,
            asyncio.TaskGroup() as group,
        ):
            await link.wait_connected(10)
            group.create_task(Worker(link, tails, announcer, on_ready=ready.set).run(stop))
            await ready.wait()
            client = await asyncio.create_subprocess_exec(
                sys.executable, str(script), broker.host, str(broker.port), str(tmp_path / "bundle/manifest.json"),
                str(image), stdout=PIPE, stderr=PIPE,
            )  # fmt: skip
            output, errors = await client.communicate()
            stop.set()
    assert client.returncode == 0, errors.decode()
    assert re.fullmatch(rf"({'|'.join(LABELS)}) [01]\.\d{{3}}, computed in \d+\.\d ms\n", output.decode())


def test_the_client_needs_nothing_of_splitbus() -> None:
    modules = re.findall(
        r"^(?:import|from) ([\w., ]+?)(?: import .*)?(?: as \w+)?$", BLOCKS["python", "client.py"], re.MULTILINE
    )
    names = {name.strip().partition(".")[0] for line in modules for name in line.split(",")}
    assert names - set(sys.stdlib_module_names) == {"msgpack", "paho"}
