"""A fit that is stopped, by whatever signal and within an epoch, goes on after the last whole one to the same bits."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cloud_worker.build.learn.fit_files import FITTED, LAST, read
from schemas.errors import ConfigError
from tests.cloud_worker.build.learn_run import run

ROOT = Path(__file__).parents[3]


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.cloud_worker.build.learn_run", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def epochs(said: list[str]) -> list[str]:
    return [line.partition(":")[0] for line in said]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    said: list[str] = []
    run(folder, said.append)
    assert epochs(said) == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert not (folder / LAST).exists()
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_after_its_first_epoch_it_ends_with_the_same_bits(
    number: signal.Signals, whole: Path, tmp_path: Path
) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("epoch 1/3")
        process.send_signal(number)
        process.communicate()
    assert process.returncode != 0
    done = read(tmp_path / LAST)["state"]["epoch"]
    assert done in {1, 2}  # on a busy machine it gets further before it is hit
    said: list[str] = []
    run(tmp_path, said.append)
    assert said[0].startswith(f"going on after epoch {done} of 3")
    assert epochs(said[1:]) == ["epoch 2/3", "epoch 3/3"][done - 1 :]
    found, wanted = read(tmp_path / FITTED), read(whole / FITTED)
    assert found["weights"] == wanted["weights"]
    for half in ("head", "tail"):
        assert all(torch.equal(found[half][name], tensor) for name, tensor in wanted[half].items())


def test_two_processes_do_not_learn_in_one_folder(tmp_path: Path) -> None:
    with start(tmp_path) as first:
        assert first.stdout is not None
        assert first.stdout.readline().startswith("epoch 1/3")
        with pytest.raises(ConfigError, match=r"another process learns in .*; wait for it, or give another folder"):
            run(tmp_path, lambda _: None)
        first.kill()
    run(tmp_path, lambda _: None)
    assert (tmp_path / FITTED).exists()
