"""Eclipse Mosquitto as an embedded engine: the system's own program with a configuration of ours."""

from __future__ import annotations

import os
import shutil
from typing import Final

from broker.engines.ports import LOOPBACK
from broker.engines.process import Launch

REMEDY: Final = "install it (Debian: apt install mosquitto) or use engine 'rumqttd'"

_EXTRA_FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")

# Nothing is written to disk, and nothing is listened to but loopback. Frames of 16 MiB and a
# backlog of 100,000 messages are more than a test needs and less than would hurt the machine.
_CONFIGURATION: Final = """\
listener {port} {host}
allow_anonymous true
persistence false
set_tcp_nodelay true
max_packet_size 16777216
max_inflight_messages 1000
max_queued_messages 100000
connection_messages false
log_dest stderr
log_type error
log_type warning
"""

# As root, mosquitto becomes the user `mosquitto`; a change of user would lift the order to die with the parent.
_STAY_ROOT: Final = "user root\n"


def find() -> str | None:
    """Give the absolute path of the program; /usr/sbin and the like, which a user's PATH may lack, are searched too."""
    folders = os.pathsep.join((os.environ.get("PATH", os.defpath), *_EXTRA_FOLDERS))
    found = shutil.which("mosquitto", path=folders)
    return os.path.abspath(found) if found else None  # noqa: PTH100  a symlink's own name is to stay


def is_available() -> bool:
    """Whether the program is on this machine."""
    return find() is not None


def launch(port: int) -> Launch:
    """Start on this port; the configuration goes over standard input, so that no file is left or lacks a permission."""
    text = _CONFIGURATION.format(port=port, host=LOOPBACK)
    if os.geteuid() == 0:
        text = _STAY_ROOT + text
    return Launch((find() or "mosquitto", "-c", "/dev/stdin"), text.encode())
