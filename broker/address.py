"""Where the broker is: one URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from schemas.errors import ConfigError

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A parsed `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL. Raises ConfigError, naming it without its password, when it is not one."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            msg = f"broker URL cannot be read: {error}; write mqtt://host:1883"
            raise ConfigError(msg) from None
        if parts.scheme not in _PORTS or not parts.hostname or parts.path not in {"", "/"} or parts.query:
            shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
            msg = f"broker URL {shown!r} is not one; write mqtt://host:1883, or mqtts:// for TLS"
            raise ConfigError(msg)
        return cls(
            host=parts.hostname,
            port=_PORTS[parts.scheme] if port is None else port,
            tls=parts.scheme == "mqtts",
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"
