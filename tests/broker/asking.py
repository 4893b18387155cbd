"""One asker and one answerer on a memory broker, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from broker.bus import Message
from broker.memory import MemoryBroker, MemoryBus
from broker.replies import Requester, open_requester

WORK, REPLY = "w/node", "r/node"
Answer = Callable[["Pair", Message], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Pair:
    """The two ends, and every request that reached the far one."""

    broker: MemoryBroker
    bus: MemoryBus
    far: MemoryBus
    requester: Requester
    requests: list[Message] = field(default_factory=list)

    async def reply(self, request: Message, payload: bytes = b"answer") -> None:
        await self.far.publish(Message(REPLY, payload, correlation=request.correlation))

    def now(self) -> float:
        return asyncio.get_running_loop().time()


async def echo(pair: Pair, request: Message) -> None:
    await pair.reply(request, request.payload)


async def silence(pair: Pair, request: Message) -> None:
    """Answers nothing."""


@asynccontextmanager
async def asking(answer: Answer = echo) -> AsyncIterator[Pair]:
    broker, clock = MemoryBroker(), asyncio.get_running_loop().time
    async with MemoryBus(broker) as bus, MemoryBus(broker) as far, open_requester(bus, REPLY, clock=clock) as requester:
        pair = Pair(broker, bus, far, requester)
        async with far.subscribe(WORK) as work, asyncio.TaskGroup() as group:

            async def serve() -> None:
                async for delivery in work:
                    pair.requests.append(delivery.message)
                    group.create_task(answer(pair, delivery.message))

            serving = group.create_task(serve())
            yield pair
            serving.cancel()
