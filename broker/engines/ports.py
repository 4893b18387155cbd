"""TCP ports of this machine, held from before a listener starts until after it is gone."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from schemas.errors import BrokerUnavailableError

LOOPBACK: Final = "127.0.0.1"


@contextmanager
def hold_port(host: str = LOOPBACK, port: int = 0) -> Iterator[int]:
    """Hold `port` of `host`, or a free one for 0, and yield its number.

    On Linux a socket stays bound to it and never listens. A child that sets SO_REUSEADDR, as every
    broker does, can listen there; the system gives the port to nobody else, also between two lives of
    that child; and who connects in between is refused. Elsewhere the port is only known to be free
    at the start. Raises BrokerUnavailableError where somebody listens or the port may not be used.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(holder, host, port)
        number = int(holder.getsockname()[1])
        if sys.platform != "linux":
            holder.close()
        yield number
    finally:
        holder.close()


def _bind(holder: socket.socket, host: str, port: int) -> None:
    try:
        holder.bind((host, port))
    except (OSError, OverflowError) as error:
        raise BrokerUnavailableError(_explain(error, host, port)) from error


def _explain(error: OSError | OverflowError, host: str, port: int) -> str:
    if isinstance(error, OverflowError):
        return f"{port} is not a TCP port; choose one from 1024 to 65535, or 0 for a free one"
    if error.errno == errno.EADDRINUSE:
        return f"{host}:{port} is taken by another program; stop that program, or choose port 0 for a free one"
    if error.errno == errno.EACCES:
        return f"this user may not listen on {host}:{port}; choose a port from 1024 up, or 0 for a free one"
    return f"cannot listen on {host}:{port} ({error.strerror}); choose an address of this machine"
