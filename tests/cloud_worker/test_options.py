"""Options: command line over environment over default; every mistake names where it stands."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.options import add_arguments, variable
from cloud_worker.__main__ import main
from cloud_worker.options import OPTIONS, RunOptions, run_options
from schemas.errors import ConfigError


def read(*argv: str, **environment: str) -> RunOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser, OPTIONS)
    return run_options(parser.parse_args(argv), environment)


def test_defaults() -> None:
    options = read("--bundle", "b")
    assert options.bundles == ("b",)
    assert str(options.broker) == "mqtt://127.0.0.1:1883"
    assert options.id.endswith(f"-{os.getpid()}")
    assert not options.trust_unsigned
    settings = options.settings
    assert (settings.max_batch, settings.max_delay_s, settings.max_queue, settings.work_qos) == (16, 0.0, 256, 0)
    assert (settings.stats_every_s, settings.stuck_after_s, settings.grace_s) == (5.0, 30.0, 20.0)


def test_the_environment_counts_where_no_option_is_given() -> None:
    environment = {
        "SPLITBUS_BUNDLE": f"a{os.pathsep}b",
        "SPLITBUS_BROKER": "mqtts://broker",
        "SPLITBUS_ID": "w7",
        "SPLITBUS_MAX_BATCH": "8",
        "SPLITBUS_MAX_DELAY_MS": "2.5",
        "SPLITBUS_WORK_QOS": "1",
        "SPLITBUS_TRUST_UNSIGNED": "1",
        "SPLITBUS_LOG_LEVEL": "",
    }
    options = read("--max-batch", "32", **environment)
    assert (options.bundles, str(options.broker), options.id) == (("a", "b"), "mqtts://broker:8883", "w7")
    assert (options.settings.max_batch, options.settings.max_delay_s, options.settings.work_qos) == (32, 0.0025, 1)
    assert options.trust_unsigned
    assert options.log_level == "info"
    assert read("--bundle", "c", "--bundle", "d", **environment).bundles == ("c", "d")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("broker", "http://x"),
        ("id", "a/b"),
        ("root", "+"),
        ("max-batch", "0"),
        ("max-batch", "1e3"),
        ("max-delay-ms", "-1"),
        ("max-delay-ms", "nan"),
        ("max-queue", "many"),
        ("work-qos", "2"),
        ("stats-every", "0"),
        ("log-level", "loud"),
    ],
)
def test_a_mistake_names_the_option_or_the_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^--{name}: "):
        read("--bundle", "b", f"--{name}={value}")
    with pytest.raises(ConfigError, match=f"^{variable(name)}: "):
        read("--bundle", "b", **{variable(name): value})


def test_no_bundle_is_a_mistake_with_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert "cloud-worker: error: no bundle is given; name one with --bundle" in capsys.readouterr().err


def test_help_names_every_variable_and_loads_no_torch() -> None:
    code = (
        "import sys\nfrom cloud_worker.__main__ import main\n"
        "try: main(['run', '--help'])\n"
        "finally: assert not {'torch', 'PIL'} & sys.modules.keys()"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert all(variable(name) in done.stdout for name in OPTIONS)
