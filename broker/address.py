"""Where the broker is: one URL."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL. Raises ConfigError, naming it without its password, when it is not one."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigError(_refusal(url)) from None
        rest = (parts.path.removeprefix("/"), parts.query, parts.fragment)
        if parts.scheme not in _PORTS or not parts.hostname or port == 0 or any(rest):
            raise ConfigError(_refusal(url))
        return cls(
            host=parts.hostname,
            port=_PORTS[parts.scheme] if port is None else port,
            tls=parts.scheme == "mqtts",
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def _refusal(url: str) -> str:
    """Name the URL by what cannot be a password: a `/` in one moves it into the host, the port or the path."""
    shown = "with a user or a password" if "@" in url else repr(url)
    return (
        f"broker URL {shown} cannot be read; write mqtt://[user:password@]host:1883, or mqtts:// for TLS, "
        "with every / ? # @ : % of a password percent-encoded"
    )
