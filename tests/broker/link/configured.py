"""mosquitto with a configuration of the test's: passwords, access rules, limits."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.engines import hold_port
from broker.engines.mosquitto import find
from broker.engines.process import ChildProcess, Launch
from tests.broker.helpers import PATIENCE_S
from tests.engines import need

_PLUGINS = "usr/lib/*/mosquitto_dynamic_security.so"

POLL_S = 0.01


@asynccontextmanager
async def configured(*lines: str) -> AsyncIterator[str]:
    """Its address without the scheme, from when it listens on."""
    need("mosquitto")
    program = str(find())
    with hold_port() as port:
        text = "\n".join([f"listener {port} 127.0.0.1", *(["user root"] if os.geteuid() == 0 else []), *lines, ""])
        child = ChildProcess(Launch((program, "-c", "/dev/stdin"), text.encode()))
        try:
            await _until_it_listens(child, port)
            yield f"127.0.0.1:{port}"
        finally:
            child.reap()


async def _until_it_listens(child: ChildProcess, port: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            assert child.exit_code is None, child.last_words()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL_S)
                continue
            writer.close()
            await writer.wait_closed()
            return


def password_file(folder: Path, **users: str) -> str:
    """What `mosquitto_passwd` would write: salted SHA-512."""
    salt = b"0123456789ab"
    path = folder / "passwords"
    path.write_text(
        "".join(
            f"{user}:$6${_base64(salt)}${_base64(hashlib.sha512(password.encode() + salt).digest())}\n"
            for user, password in users.items()
        )
    )
    path.chmod(0o600)
    return f"password_file {path}"


def acl_file(folder: Path, text: str) -> str:
    path = folder / "acl"
    path.write_text(text)
    path.chmod(0o600)
    return f"acl_file {path}"


def no_subscriptions(folder: Path) -> list[str]:
    """Settings under which every SUBSCRIBE is refused; an ACL file cannot do that in mosquitto 2.0."""
    plugins = list(Path("/").glob(_PLUGINS))
    if not plugins:  # Debian's package of mosquitto has it, builds of one's own may not
        (pytest.fail if os.environ.get("CI") else pytest.skip)("this mosquitto has no dynamic security plugin")
    path = folder / "dynsec.json"
    access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    path.write_text(json.dumps({"defaultACLAccess": access, "clients": [], "groups": [], "roles": []}))
    return [f"plugin {plugins[0]}", f"plugin_opt_config_file {path}", "allow_anonymous true"]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
