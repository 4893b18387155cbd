"""The Dockerfiles against the repository, pyproject.toml and the commands that they run; nothing is built."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from broker.health import main as health
from tests.deploy.commands import DEPLOY, PROJECT, TOP, check, unknown_variables
from tests.deploy.dockerfile import Dockerfile, is_ignored

IMAGES = {"edge-node": Dockerfile(DEPLOY / "edge.Dockerfile"), "cloud-worker": Dockerfile(DEPLOY / "cloud.Dockerfile")}
KINDS = {"edge-node": "edge", "cloud-worker": "worker"}
IGNORE = TOP / ".dockerignore"
EXTENSIONS = [
    each["name"] for each in tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
]
each_image = pytest.mark.parametrize("command", IMAGES)


@each_image
def test_what_is_copied_exists_and_is_not_ignored(command: str) -> None:
    for sources, _ in IMAGES[command].copies():
        for source in sources:
            assert (TOP / source).exists(), f"COPY {source}: there is no such file"
            assert not is_ignored(source, IGNORE), f"COPY {source}: .dockerignore hides it"


@pytest.mark.parametrize(
    "path", [".git", ".venv", "deploy", "docs", "models/fashion_mnist/test", "schemas/codecs/__pycache__"]
)
def test_the_rest_is_ignored(path: str) -> None:
    assert is_ignored(path, IGNORE)


@each_image
def test_extras_exist_and_versions_are_pinned(command: str) -> None:
    image = IMAGES[command]
    assert image.extras()
    assert set(image.extras()) <= set(PROJECT["optional-dependencies"])
    installs = [one.rest for one in image.all("RUN") if "pip install" in one.rest]
    assert all("-c constraints.txt" in one or "--no-deps" in one for one in installs)


def test_the_edge_image_has_no_torch() -> None:
    image = IMAGES["edge-node"]
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + [one for extra in image.extras() for one in extras[extra]]
    names = {re.split(r"[<>=;\[ ]", one)[0] for one in wanted}
    assert names.isdisjoint({"torch", "litert-torch"})
    assert "cloud_worker" not in [source for sources, _ in image.copies() for source in sources]
    assert any("find_spec('torch')" in one.rest and "assert not" in one.rest for one in image.all("RUN"))


@each_image
def test_the_codecs_are_compiled_and_the_compiler_stays_behind(command: str) -> None:
    instructions = IMAGES[command].instructions
    final = max(place for place, one in enumerate(instructions) if one.name == "FROM")
    runs = [one.rest for one in instructions[:final] if one.name == "RUN"]
    assert "RUN" not in [one.name for one in instructions[final:]]
    compiler = next(place for place, rest in enumerate(runs) if "gcc libc6-dev" in rest)
    assert compiler < next(place for place, rest in enumerate(runs) if "pip install" in rest)
    checked = next(rest for rest in runs if rest.startswith("python -I -c 'import schemas.codecs"))
    assert all(extension in checked for extension in EXTENSIONS)


def test_the_cloud_image_takes_an_index_and_needs_none() -> None:
    image = IMAGES["cloud-worker"]
    assert image.arguments["TORCH_INDEX"] == ""
    line = next(one.rest for one in image.all("RUN") if "TORCH_INDEX" in one.rest).replace("pip install", "echo")
    line = line.partition("&& ")[2]
    for index, words in (("", []), ("file:///wheels", ["--extra-index-url", "file:///wheels"])):
        said = subprocess.run(
            ["sh", "-c", line], env={"TORCH_INDEX": index}, capture_output=True, text=True, check=True
        )
        assert said.stdout.split() == ["-c", "constraints.txt", *words, ".[cloud]"]


@each_image
def test_signals_reach_a_process_that_is_not_root(command: str) -> None:
    image = IMAGES[command]
    assert image.last("ENTRYPOINT").json == [command]
    assert command in PROJECT["scripts"]
    assert image.last("STOPSIGNAL").rest == "SIGTERM"
    user, _, group = image.last("USER").rest.partition(":")
    assert int(user) > 0
    assert int(group) > 0
    names = [one.name for one in image.instructions]
    assert names.index("USER") > max(place for place, name in enumerate(names) if name == "RUN")


@each_image
def test_the_packages_that_it_runs_are_copied(command: str) -> None:
    copied = {source for sources, _ in IMAGES[command].copies() for source in sources}
    assert {"schemas", "broker", PROJECT["scripts"][command].partition(".")[0]} <= copied


@each_image
def test_the_command_takes_its_arguments_and_environment(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = IMAGES[command]
    environment = {name: value for name, value in image.environment().items() if name.startswith("SPLITBUS_")}
    assert not unknown_variables(command, list(environment))
    assert environment["SPLITBUS_BUNDLE"] in [target for _, target in image.copies()]
    if command == "edge-node":
        environment["SPLITBUS_SOURCE"] = "samples"
    assert check(monkeypatch, command, image.last("CMD").json or [], environment) == 0


@each_image
def test_the_health_check_asks_for_the_name_that_the_command_takes(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = shlex.split(IMAGES[command].last("HEALTHCHECK").rest.partition(" CMD ")[2], posix=False)
    assert words[:3] == ["python", "-m", "broker.health"]
    assert words[3] == KINDS[command]
    name = subprocess.run(
        ["sh", "-c", f"hostname() {{ echo {socket.gethostname()}; }}; echo {words[4]}"],
        env={},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert name == default_id(command)
    monkeypatch.setenv("SPLITBUS_BROKER", "mqtt://127.0.0.1:1")
    assert health([*words[3:4], name, "--timeout", "0.1"]) == 1
    assert "cannot tell" in capsys.readouterr().out


def default_id(command: str) -> str:
    """The name that the command takes as process 1 of this host."""
    package = PROJECT["scripts"][command].partition(".")[0]
    program = (
        "import os; os.getpid = lambda: 1\n"
        f"from {package} import options\n"
        "print(options.OPTIONS['id'].default or options.default_id())\n"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=TOP, env={}, capture_output=True, text=True, check=True)
    return said.stdout.strip()
