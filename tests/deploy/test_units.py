"""The systemd units and their environment files, by systemd's own checker and the commands' own parsers."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from cloud_worker.settings import WorkerSettings
from schemas.topics import check_id
from tests.deploy.commands import DEPLOY, VARIABLES, check, settings, unknown_variables

COMMANDS = ("edge-node", "cloud-worker")
each_unit = pytest.mark.parametrize("command", COMMANDS)


class Unit(configparser.ConfigParser):
    """A unit file without repeated keys."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr

    @classmethod
    def of(cls, command: str) -> Unit:
        unit = cls(interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"))
        unit.read_string((DEPLOY / f"{command}.service").read_text())
        return unit


def example(command: str) -> str:
    return (DEPLOY / f"{command}.env.example").read_text()


@each_unit
@pytest.mark.parametrize("instance", ["", "@"])
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_takes_the_unit(command: str, instance: str, tmp_path: Path) -> None:
    text = (DEPLOY / f"{command}.service").read_text()
    installed = tmp_path / f"{command}{instance}.service"
    installed.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    name = tmp_path / f"{command}{instance and '@1'}.service"
    said = subprocess.run(["systemd-analyze", "verify", str(name)], capture_output=True, text=True, check=False)
    complaints = [line for line in said.stderr.splitlines() if installed.stem.partition("@")[0] in line]
    assert not complaints
    assert said.returncode == 0, said.stderr


@each_unit
def test_the_command_takes_its_arguments_and_environment(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Unit.of(command)["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert Path(program) == Path("/opt/splitbus/bin", command)
    assert service["EnvironmentFile"] == f"/etc/splitbus/{command}.env"
    environment = settings(example(command))
    assert check(monkeypatch, command, arguments, environment) == 0


@each_unit
def test_every_setting_of_the_example_is_one_that_is_read_also_those_commented_out(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = settings(re.sub(r"^#(?=SPLITBUS_)", "", example(command), flags=re.MULTILINE))
    assert {"SPLITBUS_BROKER", "SPLITBUS_BUNDLE", "SPLITBUS_ROOT"} <= set(everything)
    assert not unknown_variables(command, list(everything))
    assert set(everything) <= VARIABLES[command]
    assert check(monkeypatch, command, ["run"], everything) == 0


@each_unit
def test_it_comes_back_and_may_end_in_peace(command: str) -> None:
    unit = Unit.of(command)
    service = unit["Service"]
    assert service["Type"] == "exec", "notify comes with the code that notifies"
    assert service["Restart"] == "always"
    assert int(service["RestartSec"]) >= 1
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Install"]["WantedBy"] == "multi-user.target"
    least = WorkerSettings().grace_s if command == "cloud-worker" else 1.0
    assert float(service["TimeoutStopSec"]) > least


@each_unit
def test_it_can_do_little_but_its_work(command: str) -> None:
    service = Unit.of(command)["Service"]
    assert service["User"] == "splitbus"
    assert service["NoNewPrivileges"] == service["PrivateTmp"] == service["ProtectHome"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["MemoryMax"].endswith(("M", "G"))


def test_the_node_does_not_wait_for_a_broker_and_reads_what_it_may() -> None:
    assert "--offline-ok" in Unit.of("edge-node")["Service"]["ExecStart"]
    assert not settings(example("edge-node"))["SPLITBUS_SOURCE"].startswith(("/home", "/root"))


@pytest.mark.parametrize("instance", ["", "12"])
def test_each_worker_of_a_host_has_a_name_of_its_own(instance: str) -> None:
    given = Unit.of("cloud-worker")["Service"]["Environment"].removeprefix("SPLITBUS_ID=")
    specifiers = {"%H": "node-3", "%p": "cloud-worker", "%i": instance}
    name = re.sub(r"%[Hpi]", lambda match: specifiers[match[0]], given)
    assert check_id(name, "worker id") == f"node-3-cloud-worker{instance}"
