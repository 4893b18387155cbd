"""Broker URLs: what is read, what is refused, and that no error shows a password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.address import BrokerAddress
from schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://host", BrokerAddress("host", 1883)),
        ("mqtt://host/", BrokerAddress("host", 1883)),
        ("mqtt://host:1884", BrokerAddress("host", 1884)),
        ("mqtts://host", BrokerAddress("host", 8883, tls=True)),
        ("mqtt://user@host", BrokerAddress("host", 1883, username="user")),
        ("mqtt://user:pw@host:1", BrokerAddress("host", 1, username="user", password="pw")),  # noqa: S106 - an example
        ("mqtt://u%40x:p%2Fw%20%3A@host", BrokerAddress("host", 1883, username="u@x", password="p/w :")),  # noqa: S106 - an example
        ("mqtt://[::1]:1883", BrokerAddress("::1", 1883)),
        ("MQTT://127.0.0.1", BrokerAddress("127.0.0.1", 1883)),
    ],
)
def test_a_url_is_read(url: str, address: BrokerAddress) -> None:
    assert BrokerAddress.parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "host:1883",
        "http://host",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://host:port",
        "mqtt://host:0",
        "mqtt://host:65536",
        "mqtt://host/topic",
        "mqtt://host?x=1",
        "mqtt://host#x",
        "mqtt://[::1",
    ],
)
def test_what_is_no_broker_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigError, match=r"write mqtt://.*host:1883"):
        BrokerAddress.parse(url)


SECRETS = st.text("abz019/?#@:%[] ", min_size=4, max_size=12).map(lambda text: f"QQ{text}")


@given(SECRETS, st.sampled_from(["host", "host:1", "host:x", "host:99999", "", "host/t"]))
def test_no_error_and_no_name_shows_a_password(secret: str, host: str) -> None:
    try:
        shown = str(BrokerAddress.parse(f"mqtt://user:{secret}@{host}"))
    except ConfigError as error:
        shown = str(error)
    assert "QQ" not in shown.upper()


def test_its_name_can_be_read_again_and_has_no_password() -> None:
    for url in ("mqtt://host:1", "mqtts://host:8883", "mqtt://[::1]:1883"):
        assert str(BrokerAddress.parse(url)) == url
    assert str(BrokerAddress.parse("mqtt://user:pw@host")) == "mqtt://host:1883"
