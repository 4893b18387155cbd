"""The whole pipeline as real processes: a broker, a worker, an edge node, on both engines."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.children import BUNDLE, child_process, node_argv
from broker.engines import EngineChoice, EngineName, start_broker
from schemas.bundle_files import Bundle, open_bundle
from tests.bundles import samples, tiny_pair
from tests.engines import ENGINES, need
from tests.system.load import start_workers

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "models/fashion_mnist/samples"
COUNT = 20


async def answers(engine: EngineChoice, bundle: Bundle, source: Path, *options: str) -> list[dict[str, Any]]:
    """What an edge process prints, with one worker process on a broker of that engine."""
    async with start_broker(engine) as broker, AsyncExitStack() as stack:
        await start_workers(stack, bundle, broker.url, "w1")
        argv = node_argv(broker.url, "cam-1", "--source", str(source), *options, bundle=bundle.path)
        node = await stack.enter_async_context(child_process("cam-1", argv))
        return [row async for row in node.lines()]


@pytest.mark.parametrize("engine", ENGINES)
async def test_the_cloud_finishes_what_the_edge_began(engine: EngineName, pair: Bundle, tmp_path: Path) -> None:
    inputs = samples(COUNT)
    np.save(tmp_path / "inputs.npy", inputs)
    options = ("--route", "hybrid", "--concurrency", "4", "--deadline-ms", "20000")
    rows = await answers(need(engine), pair, tmp_path / "inputs.npy", *options)
    assert len(rows) == COUNT
    assert {(row["source"], row["route"], row["cloud_status"]) for row in rows} == {("cloud", "hybrid_split", "ok")}
    model = tiny_pair()
    wanted = {f"inputs.npy[{n}]": int(model.logits(model.cut(each)).argmax()) for n, each in enumerate(inputs)}
    same = sum(row["label"] == wanted[row["sample"]] for row in rows)
    assert same >= COUNT - 1  # 8 bits may turn one close call
    assert all(row["bytes_up"] <= row["attempts"] * (row["payload_bytes"] + 100) for row in rows)
    assert {row["interface"] for row in rows} == {pair.manifest.interface}


async def test_the_committed_pair_knows_clothes() -> None:
    path = ROOT / BUNDLE
    if not (path / "manifest.json").is_file():
        pytest.skip(f"{BUNDLE} is not built yet")
    options = ("--route", "cloud", "--deadline-ms", "30000")
    rows = await answers("auto", open_bundle(path), SAMPLES, *options)
    assert len(rows) == 10
    assert {row["source"] for row in rows} == {"cloud"}
    assert sum(row["label"] == row["truth"] for row in rows) >= 8
