"""Is a process of this fleet alive? Its own presence says so: `python -m broker.health worker ID`.

The broker replaces a process's retained presence by its will once 1.5 keepalives have passed without a sign of
life, so "online" says at once: it runs, its event loop turns, it is connected, and a worker is subscribed and
not stuck. A check of the container's pid says none of that.

When the broker is away nobody can tell, and the answer is no: the process may be well, the service is not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from collections.abc import Sequence
from typing import Final, get_args

from broker.address import BrokerAddress
from broker.link import Link, LinkConfig
from broker.presence import Roster
from schemas.errors import SplitbusError
from schemas.messages import Presence, PresenceState
from schemas.topics import Kind, Topics, check_id

ENVIRONMENT: Final = {"SPLITBUS_BROKER": "mqtt://127.0.0.1:1883", "SPLITBUS_ROOT": "sb"}
"""The variables that are read, by the names that both speakers know, and what holds without."""
HEALTHY, UNHEALTHY = 0, 1


async def ask(address: BrokerAddress, topics: Topics, kind: Kind, id_: str, timeout_s: float) -> Presence | None:
    """What the process says of itself, or the broker in its name; None when nobody of that name ever announced.

    Raises BrokerUnavailableError, BrokerRefusedError or NotConnectedError when the broker cannot be asked.
    """
    roster = Roster(topics)
    async with Link(LinkConfig(address, f"health-{secrets.token_hex(6)}", timeout_s=timeout_s)) as link:
        await link.wait_connected(timeout_s)
        async with link.subscribe(topics.presence(kind, id_), qos=1) as subscription:
            try:
                async with asyncio.timeout(timeout_s):
                    delivery = await anext(aiter(subscription))
            except (TimeoutError, StopAsyncIteration):
                return None
            delivery.ack()
            return roster.update(delivery.message)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the verdict; 0 when the process is online, else 1 with the reason."""
    parser = argparse.ArgumentParser(prog="python -m broker.health", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=get_args(Kind))
    parser.add_argument("id", help="its --id or SPLITBUS_ID")
    parser.add_argument("--timeout", type=float, default=3.0, metavar="S", help="for each of two steps (default: 3)")
    options = parser.parse_args(argv)
    given = {name: os.environ.get(name) or default for name, default in ENVIRONMENT.items()}
    try:
        presence = asyncio.run(
            ask(
                BrokerAddress.parse(given["SPLITBUS_BROKER"]),
                Topics(given["SPLITBUS_ROOT"]),
                options.kind,
                check_id(options.id, "id"),
                options.timeout,
            )
        )
    except SplitbusError as error:
        return _say(f"cannot tell: {error}", UNHEALTHY)
    if presence is None:
        return _say(f"no {options.kind} announced itself as {options.id!r}; compare its --id", UNHEALTHY)
    healthy = presence.state is PresenceState.ONLINE
    return _say(f"{options.kind} {options.id} is {presence.state.value}", HEALTHY if healthy else UNHEALTHY)


def _say(verdict: str, code: int) -> int:
    sys.stdout.write(f"{verdict}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
