"""A bare aiomqtt echo, the baseline: `python -m benchmarks.echo --broker URL`; from `echo/ask` to `echo/reply`."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys

import aiomqtt

from broker.address import BrokerAddress
from broker.process import run_process

ASK, REPLY = "echo/ask", "echo/reply"


def bare_client(broker: str, client_id: str) -> aiomqtt.Client:
    """Connect aiomqtt as its documentation shows it, with MQTT 5 and TCP_NODELAY."""
    address = BrokerAddress.parse(broker)
    return aiomqtt.Client(
        address.host,
        address.port,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )


async def serve(broker: str, stop: asyncio.Event) -> None:
    """Send every payload back."""

    async def echo() -> None:
        async with bare_client(broker, "echo") as client:
            await client.subscribe(ASK)
            print("ready echo", file=sys.stderr, flush=True)
            async for message in client.messages:
                await client.publish(REPLY, message.payload)

    task = asyncio.create_task(echo(), name="echo")
    await stop.wait()
    task.cancel()
    await asyncio.wait({task})


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", required=True)
    options = parser.parse_args()
    return run_process("echo", lambda stop: serve(options.broker, stop), log_level="warning")


if __name__ == "__main__":
    sys.exit(main())
