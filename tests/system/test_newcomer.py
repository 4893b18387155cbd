"""A model of one's own, from its module to an answered request, with commands only."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.children import child_process, node_argv
from broker.engines import start_broker
from schemas.bundle_files import open_bundle
from schemas.preprocess import Preprocess
from schemas.tensor import Array
from tests.cloud_worker.build.newcomer import CLASSES, build, signals, write_images, write_models
from tests.system.load import start_workers


async def answers(bundle: Path, source: Path) -> list[dict[str, Any]]:
    """What an edge process prints that finds a worker process of the bundle on a broker."""
    opened = open_bundle(bundle)
    async with start_broker() as broker, AsyncExitStack() as stack:
        await start_workers(stack, opened, broker.url, "w1")
        options = ("--source", str(source), "--route", "hybrid", "--runtime", "numpy", "--deadline-ms", "20000")
        node = await stack.enter_async_context(
            child_process("node", node_argv(broker.url, "node", *options, bundle=bundle))
        )
        return [row async for row in node.lines()]


def classes(model: torch.nn.Module, inputs: Array) -> list[int]:
    with torch.inference_mode():
        return [int(label) for label in model.eval()(torch.from_numpy(inputs)).argmax(dim=1)]


def check_shipped(rows: list[dict[str, Any]], wanted: list[int]) -> None:
    assert {(row["source"], row["cloud_status"]) for row in rows} == {("cloud", "ok")}
    same = [row["label"] == label for row, label in zip(rows, wanted, strict=True)]
    assert sum(same) >= len(wanted) - 1  # the codec may turn one close call
    assert len(set(wanted)) > 1


@pytest.mark.timeout(120)
async def test_an_image_net(tmp_path: Path) -> None:
    model = write_models(tmp_path).Colours()
    write_images(tmp_path / "images")
    options = ("--model", "newcomer_nets:Colours", "--samples", "images", "--input-shape", "3,20,24")
    done = build(tmp_path, *options, "--cut", "stem", "--out", "bundles/colours")
    assert done.returncode == 0, done.stderr
    manifest = open_bundle(tmp_path / "bundles/colours").manifest
    assert manifest.labels == CLASSES
    folder = tmp_path / "images" / "red"
    pictures = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    pictures[0] = np.asarray(Image.open(tmp_path / "images" / "blue" / "0.png"))
    Image.fromarray(pictures[0]).save(min(folder.iterdir()))
    inputs = np.stack([Preprocess().apply(picture) for picture in pictures])
    check_shipped(await answers(tmp_path / "bundles/colours", folder), classes(model, inputs))


@pytest.mark.timeout(120)
async def test_a_signal_net(tmp_path: Path) -> None:
    model = write_models(tmp_path).make_signal()
    (tmp_path / "samples").mkdir()
    np.save(tmp_path / "samples" / "all.npy", signals())
    options = ("--model", "newcomer_nets:make_signal", "--samples", "samples", "--cut", "0", "--name", "swings")
    done = build(tmp_path, *options, "--version", "2.3.4", "--out", "swings")
    assert done.returncode == 0, done.stderr
    manifest = open_bundle(tmp_path / "swings").manifest
    assert (manifest.name, manifest.edge_version, manifest.preprocess.kind) == ("swings", "2.3.4", "identity")
    fresh = np.random.default_rng(9).permutation(signals())[:20]
    np.save(tmp_path / "fresh.npy", fresh)
    check_shipped(await answers(tmp_path / "swings", tmp_path / "fresh.npy"), classes(model, fresh))
