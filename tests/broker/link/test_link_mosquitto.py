"""Refusals and limits of a real mosquitto."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.bus import Message
from broker.packets import publish_size
from schemas.errors import BrokerRefusedError, TooLargeError
from tests.broker.helpers import link_to, linked, payloads, soon
from tests.broker.link.configured import acl_file, configured, no_subscriptions, password_file


@pytest.mark.parametrize("who", ["", "node:wrong@", "stranger:right@"])
async def test_wrong_credentials_are_an_error_that_says_what_to_check(tmp_path: Path, who: str) -> None:
    passwords = password_file(tmp_path, node="right")
    async with configured("allow_anonymous false", passwords) as address, link_to(f"mqtt://{who}{address}") as link:
        with pytest.raises(BrokerRefusedError, match="check the user name, the password") as caught:
            await soon(link.wait_connected())
    assert caught.value.code in {0x86, 0x87}


async def test_right_credentials_are_let_in(tmp_path: Path) -> None:
    async with (
        configured("allow_anonymous false", password_file(tmp_path, node="p/w @1")) as address,
        linked(f"mqtt://node:p%2Fw%20%401@{address}") as link,
    ):
        await soon(link.publish(Message("t", b"x", qos=1)))


async def test_a_publish_that_access_rules_forbid_is_an_error_at_qos_1(tmp_path: Path) -> None:
    async with (
        configured("allow_anonymous true", acl_file(tmp_path, "topic readwrite open/#\n")) as address,
        linked(f"mqtt://{address}") as link,
        link.subscribe("open/t") as subscription,
    ):
        with pytest.raises(BrokerRefusedError, match="take a message to secret/t: Not authorized") as caught:
            await soon(link.publish(Message("secret/t", b"x", qos=1)))
        assert caught.value.code == 0x87
        await link.publish(Message("open/t", b"x", qos=1))
        assert await payloads(subscription, 1) == [b"x"]


async def test_a_subscription_that_access_rules_forbid_is_an_error(tmp_path: Path) -> None:
    async with configured(*no_subscriptions(tmp_path)) as address, linked(f"mqtt://{address}") as link:
        with pytest.raises(BrokerRefusedError, match="refused to subscribe secret/t: Not authorized"):
            async with asyncio.timeout(5), link.subscribe("secret/t"):
                pytest.fail("it was granted")
        assert link.connected


async def test_mosquittos_packet_limit_is_kept() -> None:
    async with (
        configured("allow_anonymous true", "max_packet_size 1000") as address,
        linked(f"mqtt://{address}") as link,
        link.subscribe("t", qos=1) as subscription,
    ):
        room = 1000 - publish_size(Message("t", b"", qos=1))
        with pytest.raises(TooLargeError) as caught:
            await link.publish(Message("t", bytes(room), qos=1))
        assert (caught.value.size, caught.value.cap) == (1001, 1000)
        await link.publish(Message("t", bytes(room - 1), qos=1))
        assert await payloads(subscription, 1) == [bytes(room - 1)]
        assert link.statistics().connects == 1
