"""Options that every verb with a broker has; a verb adds its own to the table."""

from __future__ import annotations

from typing import Final

from broker.address import BrokerAddress
from broker.options import Option, Table, log_level, number
from schemas.topics import Topics

BROKER_OPTIONS: Final[Table] = {
    "broker": Option(
        BrokerAddress.parse, "mqtt://127.0.0.1:1883", "mqtt://[user[:password]@]host[:port], or mqtts:// for TLS"
    ),
    "root": Option(Topics, "sb", "first level of every topic"),
    "connect-timeout": Option(number(0.001, 3600), "5", "how many seconds to wait for the broker"),
    "log-level": log_level("warning"),
}
