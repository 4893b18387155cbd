"""docker-compose.yml against the code's own settings; no engine is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.address import BrokerAddress
from cloud_worker.settings import WorkerSettings
from tests.deploy.commands import DEPLOY, TOP, check, unknown_variables
from tests.deploy.dockerfile import Dockerfile

FILE = TOP / "docker-compose.yml"
TEXT = FILE.read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
COMMANDS = {"edge_node": "edge-node", "cloud_worker": "cloud-worker"}
each_service = pytest.mark.parametrize("service", SERVICES)
each_speaker = pytest.mark.parametrize("service", COMMANDS)


def substituted(value: object) -> str:
    """What compose makes of a value when nothing is set in its environment."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


def seconds(duration: str) -> float:
    match = re.fullmatch(r"(\d+)s", duration)
    assert match, f"write {duration!r} in seconds"
    return float(match[1])


def dockerfile(service: str) -> Dockerfile:
    build = SERVICES[service]["build"]
    return Dockerfile(TOP / build["context"] / build["dockerfile"])


def compose() -> list[str] | None:
    """The compose of the docker client, where it has one; it needs no engine for `config`."""
    if shutil.which("docker") is None:
        return None
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return None if asked.returncode else ["docker", "compose"]


@pytest.mark.skipif(compose() is None, reason="this docker client has no compose")
def test_compose_itself_takes_the_file() -> None:
    said = subprocess.run(
        [*(compose() or []), "-f", str(FILE), "config", "-q"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr


@each_speaker
def test_the_command_takes_its_arguments_and_environment(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command, given = COMMANDS[service], SERVICES[service]["environment"]
    environment = {name: substituted(value) for name, value in given.items()}
    assert not unknown_variables(command, list(environment))
    assert check(monkeypatch, command, SERVICES[service]["command"], environment) == 0


@each_speaker
def test_the_broker_is_a_service_of_this_file(service: str) -> None:
    address = BrokerAddress.parse(SERVICES[service]["environment"]["SPLITBUS_BROKER"])
    assert address.host in SERVICES
    assert f"\nlistener {address.port}\n" in (DEPLOY / "mosquitto.conf").read_text()


@each_speaker
def test_bundle_and_source_are_in_the_container(service: str) -> None:
    targets = [target for _, target in dockerfile(service).copies()]
    targets += [volume.split(":")[1] for volume in SERVICES[service].get("volumes", [])]
    environment = SERVICES[service]["environment"]
    paths = [environment[name] for name in ("SPLITBUS_BUNDLE", "SPLITBUS_SOURCE") if name in environment]
    assert paths
    assert set(paths) <= set(targets)


@each_service
def test_what_is_mounted_exists(service: str) -> None:
    volumes = yaml.safe_load(TEXT)["volumes"]
    for volume in SERVICES[service].get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (TOP / source).exists()
            assert volume.endswith(":ro")
        else:
            assert source in volumes


@each_speaker
def test_build_arguments_are_those_of_the_dockerfile(service: str) -> None:
    assert set(SERVICES[service]["build"].get("args", {})) <= set(dockerfile(service).arguments)


def test_workers_can_be_scaled() -> None:
    worker = SERVICES["cloud_worker"]
    assert not {"container_name", "ports", "hostname", "init"} & set(worker)
    assert "SPLITBUS_ID" not in worker["environment"]
    assert "--scale cloud_worker=" in TEXT


@pytest.mark.parametrize("service", COMMANDS)
def test_nobody_outside_reaches_the_broker_without_tls(service: str) -> None:
    assert "ports" not in SERVICES["mosquitto"]
    assert SERVICES[service].get("network_mode") != "host"
    assert "no TLS" in TEXT


@each_service
def test_it_comes_back_and_is_bounded(service: str) -> None:
    assert SERVICES[service]["restart"] == "unless-stopped"
    limits = SERVICES[service]["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) > 0
    assert re.fullmatch(r"\d+[mg]", limits["memory"])
    assert SERVICES[service]["logging"]["options"]["max-size"]


@each_service
def test_health_is_checked_where_it_is_waited_for(service: str) -> None:
    for other, how in SERVICES[service].get("depends_on", {}).items():
        assert how["condition"] == "service_healthy"
        assert "healthcheck" in SERVICES[other]
    assert "healthcheck" in SERVICES[service] or dockerfile(service).all("HEALTHCHECK")


def test_a_worker_may_finish_its_drain() -> None:
    assert seconds(SERVICES["cloud_worker"]["stop_grace_period"]) > WorkerSettings().grace_s


@each_speaker
def test_a_process_can_do_little_but_its_work(service: str) -> None:
    one = SERVICES[service]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in one["security_opt"]
    assert not one.get("privileged")


def test_each_variable_is_explained_and_has_a_default() -> None:
    used = set(re.findall(r"\$\{(\w+):-", TEXT))
    assert used == set(re.findall(r"\$\{(\w+)", TEXT)), "each needs a default"
    head = TEXT.partition("services:")[0]
    assert used == set(re.findall(r"^#   ([A-Z_]+)  +\S", head, re.MULTILINE))


def test_paths_are_relative_to_the_file() -> None:
    assert FILE.parent == TOP
    for service in COMMANDS:
        assert Path(SERVICES[service]["build"]["context"]) == Path()
