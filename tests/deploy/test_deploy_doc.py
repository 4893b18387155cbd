"""docs/deploy.md says only what the commands and files of this release know."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.deploy.commands import DEPLOY, PROJECT, TOP, VARIABLES, check, commands_in

TEXT = (TOP / "docs" / "deploy.md").read_text()
FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
READ_BY_CODECS = {"SPLITBUS_PURE_PYTHON"}
CALLS = commands_in("\n".join([*(code for _, code in FENCES), *re.findall(r"`([^`\n]+)`", TEXT)]))


def test_there_are_calls_to_check() -> None:
    assert {call[0] for call in CALLS} == {"edge-node", "cloud-worker"}


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_call_is_one_that_the_command_takes(
    call: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *arguments = call
    assert check(monkeypatch, command, arguments, {}) == 0, capsys.readouterr().err


def test_every_variable_is_read_by_the_commands_or_the_codecs() -> None:
    read = VARIABLES["edge-node"] | VARIABLES["cloud-worker"] | READ_BY_CODECS
    assert set(re.findall(r"SPLITBUS_[A-Z_]+", TEXT)) <= read


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"(?<![\w/])((?:deploy|models|constraints)[\w./-]*[\w/-])", TEXT))
    assert "deploy/edge-node.service" in named
    absent = {name for name in named if "/" in name or name.endswith(".txt") if not (TOP / name).exists()}
    assert not absent


def test_every_extra_exists_and_every_unit_is_explained() -> None:
    assert set(re.findall(r"'\.\[(\w+)\]'", TEXT)) <= set(PROJECT["optional-dependencies"])
    for file in DEPLOY.iterdir():
        if not file.name.endswith("Dockerfile"):
            assert f"deploy/{file.name}" in TEXT, file.name


def test_links_within_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_the_override_names_a_service_of_the_compose_file() -> None:
    override = next(yaml.safe_load(code) for language, code in FENCES if language == "yaml")
    services = yaml.safe_load((TOP / "docker-compose.yml").read_text())["services"]
    assert set(override["services"]) <= set(services)
