"""`cloud-worker plan`: the table, JSON, the page, and what it says of bad input."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from benchmarks.profiles import random_profile
from cloud_worker.__main__ import main
from cloud_worker.build.measure.profile_file import SplitProfile, write_profile
from cloud_worker.build.plan.network import LINKS
from cloud_worker.build.plan.options import OPTIONS
from cloud_worker.build.plan.ranking import Constraints, plan
from cloud_worker.build.plan.table import fitting, table
from tests.cloud_worker.build.plan_profiles import tiny, tiny_profile

ROOT = Path(__file__).parents[3]
ROUND = ("--rtt-ms", "10", "--up-mbit", "1", "--down-mbit", "8", "--loss", "0")
HALF = ("--max-edge-share", "0.5")
VOID = {"meta"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SPLITBUS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    write_profile(tiny_profile(), path)
    return path


class Page(HTMLParser):
    """What a page shows, if its tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "action"}]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "td":
            self.rows[-1].append(data)


def svg_of(text: str) -> ET.Element:
    return ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])  # noqa: S314 - our own


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(["plan", *argv])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_table_shows_the_story_and_marks_the_best(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = shown(capsys, str(profile), *ROUND, *HALF)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["cloud", "only", "0", "input", "0%", "input", "quality=80"] in [line[:7] for line in lines]
    assert [">", "early", "1", "block.1", "30%", "affine", "292", "6.0", "0.5", "12.0"] in [line[:10] for line in lines]
    edge = next(line for line in lines if line[:3] == ["x", "edge", "only"])
    assert edge[-2:] == ["misses", "max_edge_macs_share"]
    assert "10 ms round trip, 1 Mbit/s up, 8 Mbit/s down" in out
    assert "best: cut 1 (block.1) through affine" in out
    assert "transform" not in out
    assert "transform" in shown(capsys, str(profile), *ROUND, *HALF, "--all")[1]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 300])
def test_a_narrow_terminal_gets_fewer_columns_but_whole_ones(width: int) -> None:
    made = plan(random_profile(3, cuts=12, points=2), LINKS["4G"], constraints=Constraints(max_edge_macs_share=0.6))
    console = Console(width=width, file=io.StringIO(), record=True)
    columns = fitting(console, made.by_cut(), made.best)
    console.print(table(made.by_cut(), made.best, columns))
    lines = console.export_text().splitlines()
    assert {"split", "cut", "codec", "bytes", "edge_ms", "transfer_ms", "cloud_ms", "p50_ms"} <= set(columns)
    assert all(len(line) <= width for line in lines)
    assert not any("…" in line for line in lines)
    assert ("ssim" in columns) == (width == 300)
    best = made.best.candidate
    row = next(line for line in lines if line.startswith(" >"))
    assert f"{best.bytes_mean:,.0f}" in row
    assert f"{best.p50.total_ms:.1f}" in row


def test_json_is_one_object_with_every_candidate(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = shown(capsys, str(profile), *ROUND, *HALF, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    data = json.loads(out)
    assert (data["best"]["cut"], data["best"]["codec"], len(data["candidates"])) == (1, "affine", 4)
    assert data["best"]["latency_p50_ms"] == pytest.approx(6 + 0.5 + 7 + 10.5 + 5.042)


def test_a_named_link_with_one_thing_said_otherwise(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = json.loads(shown(capsys, str(profile), "--json", "--profile-link", "dsl", "--loss", "0.02")[1])["link"]
    assert link == {"rtt_ms": 20, "up_mbit_s": 10, "down_mbit_s": 50, "loss": 0.02}


def test_options_come_from_the_environment_too(
    profile: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLITBUS_PROFILE_LINK", "LAN")
    monkeypatch.setenv("SPLITBUS_PRICE_MEGABYTE", "0")
    data = json.loads(shown(capsys, str(profile), "--json")[1])
    assert (data["link"]["rtt_ms"], data["prices"]["per_megabyte"]) == (0.5, 0)


def test_the_page_parses_needs_nothing_else_and_holds_every_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, path, report = random_profile(5, cuts=60, points=6), tmp_path / "p.json", tmp_path / "r.html"
    write_profile(made, path)
    assert shown(capsys, str(path), "--report", str(report))[0] == 0
    text = report.read_text()
    page, svg = Page(text), svg_of(text)
    assert page.links == []
    assert "url(" not in text
    assert text.replace("http://www.w3.org/2000/svg", "").count("//") == 0
    names = ["input", *(cut.name for cut in made.cuts), "whole model"]
    cells = [row for row in page.rows if row]
    assert [row[2] for row in cells[: len(names)]] == names
    assert len(cells) == len(names) + 61 * 6 + 1
    spoken = "{http://www.w3.org/2000/svg}"
    bars = [each for each in svg.iter(f"{spoken}g") if (each.get("class") or "").startswith("bar")]
    titles = [each.findtext(f"{spoken}title") or "" for each in bars]
    assert len(bars) == len(names)
    assert all(f"({name})" in title or title.startswith(name) for name, title in zip(names, titles, strict=True))
    assert len([each for each in svg.iter(f"{spoken}rect") if each.get("class") == "chosen"]) == 1
    assert all(len(bar.findall(f"{spoken}rect")) == 4 for bar in bars)


def test_bars_stand_on_each_other_and_none_is_over_the_top(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tiny()
    data["cloud_only"]["points"][0].update(bytes_mean=5e6, bytes_p95=5e6)  # 40 seconds at 1 Mbit/s, and refused
    path, report = tmp_path / "p.json", tmp_path / "r.html"
    write_profile(SplitProfile.model_validate(data), path)
    assert shown(capsys, str(path), *ROUND, "--report", str(report))[0] == 0
    svg = svg_of(report.read_text())
    spoken = "{http://www.w3.org/2000/svg}"
    for bar in svg.iter(f"{spoken}g"):
        rects = [(float(each.attrib["y"]), float(each.attrib["height"])) for each in bar.findall(f"{spoken}rect")]
        for (y, _), (above, height) in pairwise(rects):
            assert above + height == pytest.approx(y, abs=0.11)
        assert min(y for y, _ in rects) >= 56
    assert "40,0" in "".join(each.text or "" for each in svg.iter(f"{spoken}text"))


def test_names_from_the_profile_are_text_in_the_page_and_in_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data: dict[str, Any] = tiny()
    data["model"] = "<script>alert(1)</script>"
    data["cuts"][0]["name"] = '[red]"&<b>'
    data["cuts"][0]["points"][0]["config"] = {"x": "\x1b[31m"}
    path, report = tmp_path / "p.json", tmp_path / "r.html"
    write_profile(SplitProfile.model_validate(data), path)
    code, out, _ = shown(capsys, str(path), *ROUND, "--all", "--report", str(report))
    assert code == 0
    assert '[red]"&<b>' in out
    assert "\x1b" not in out
    text = report.read_text()
    assert "<script" not in text
    assert "\x1b" not in text
    assert '[red]"&<b>' in Page(text).text
    svg_of(text)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--rtt-ms", "-1"), "--rtt-ms: '-1' is not a number from 0 to"),
        (("--up-mbit", "0"), "--up-mbit: '0' is not a number from 0.001"),
        (("--loss", "1"), "--loss: '1' is not a number from 0 to 0.5"),
        (("--profile-link", "5G"), "--profile-link: '5G' is none of LAN, DSL, 4G, EDGE2G"),
        (("--max-ssim", "nan"), "--max-ssim: 'nan' is not"),
        (("--report", ""), "--report: '' is not the name of a file"),
        (("--weight-latency", "0", "--weight-cost", "0", "--weight-quality", "0"), "all weights are 0"),
        (("--max-latency-ms", "1"), "no way to split tiny meets the constraints; the nearest is cut 1 (block.1)"),
        (
            ("--max-kl", "0", "--max-edge-share", "0.9"),
            "the nearest is whole model: max_edge_macs_share is 0.9, it has 1, 0.1 over",
        ),
    ],
)
@pytest.mark.parametrize("form", ["table", "json"])
def test_bad_input_ends_with_2_and_the_reason(
    profile: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], message: str, form: str
) -> None:
    report = profile.parent / "r.html"
    code, out, err = shown(
        capsys, str(profile), *ROUND, "--report", str(report), *argv, *(["--json"] if form == "json" else [])
    )
    assert (code, out) == (2, "")
    assert err.startswith("cloud-worker plan: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not report.exists()


def test_a_profile_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, str(tmp_path / "none.json"))[0] == 2
    half = tmp_path / "half.json"
    half.write_text('{"format": 1,')
    code, _, err = shown(capsys, str(half))
    assert code == 2
    assert "half.json: the profile cannot be used: value: Invalid JSON" in err


@pytest.mark.parametrize("command", [[], ["bake"], ["plan"], ["plan", "p.json", "--frobnicate"]])
def test_a_command_line_that_is_none_ends_with_2(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert "usage: cloud-worker" in capsys.readouterr().err


def test_no_half_written_page_is_left(
    profile: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = profile.parent / "r.html"
    report.write_text("the old page")

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = shown(capsys, str(profile), "--report", str(report))
    assert code == 2
    assert "r.html cannot be written: No space left on device" in err
    assert report.read_text() == "the old page"
    assert sorted(path.name for path in profile.parent.iterdir()) == ["r.html", "tiny.json"]


def test_a_folder_that_is_not_there_is_said(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = shown(capsys, str(profile), "--report", str(profile.parent / "no" / "r.html"))
    assert (code, out) == (2, "")
    assert "cannot be written: No such file or directory" in err


def test_without_rich_the_extra_is_named_and_json_still_works(
    profile: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    code, _, err = shown(capsys, str(profile))
    assert code == 2
    assert "pip install 'splitbus[build]'" in err
    assert shown(capsys, str(profile), "--json")[0] == 0


def test_a_real_process_plans_without_torch_asyncio_or_the_bus(profile: Path, tmp_path: Path) -> None:
    heavy = ("torch", "asyncio", "aiomqtt", "paho", "uvloop", "numpy", "PIL", "matplotlib")
    code = (
        "import sys\nfrom cloud_worker.__main__ import main\n"
        f"code = main({['plan', str(profile), *ROUND, '--report', str(tmp_path / 'r.html')]!r})\n"
        f"loaded = {set(heavy)!r} & sys.modules.keys()\n"
        "assert not loaded, loaded\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "best: whole model" in done.stdout


def test_the_command_itself_ends_with_2_when_nothing_is_admissible(profile: Path) -> None:
    command = [sys.executable, "-m", "cloud_worker", "plan", str(profile), "--max-latency-ms", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cloud-worker plan: error: no way to split tiny meets the constraints")
    assert "Traceback" not in done.stderr


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert all(f"--{name}" in out for name in OPTIONS)
