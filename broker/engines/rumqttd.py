"""rumqttd, out of the iotcore wheel, as an embedded engine: works wherever pip does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Final

from broker.engines.process import Launch

REMEDY: Final = "install it (pip install iotcore) or use engine 'mosquitto'"

_MAIN: Final = str(Path(__file__).with_name("_rumqttd_main.py"))


def is_available() -> bool:
    """Whether iotcore is installed; it is not imported here, since it is wanted in the child only."""
    return importlib.util.find_spec("iotcore") is not None


def launch(port: int) -> Launch:
    """Start on this port, in an interpreter that imports nothing of ours."""
    return Launch((sys.executable, "-P", _MAIN, "--port", str(port)))
