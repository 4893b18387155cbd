"""Choose an engine, start it, and make sure that it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal, Protocol, TypeAlias

from broker.engines import mosquitto, rumqttd
from broker.engines.ports import LOOPBACK, hold_port
from broker.engines.process import Launch
from broker.engines.running import RunningBroker
from schemas.errors import BrokerUnavailableError

EngineName: TypeAlias = Literal["mosquitto", "rumqttd"]
EngineChoice: TypeAlias = Literal["auto", "mosquitto", "rumqttd"]


class Engine(Protocol):
    """What a module of an engine offers."""

    @property
    def REMEDY(self) -> str:  # noqa: N802  a module's constant
        """What to do where the engine is missing."""

    def is_available(self) -> bool:
        """Whether it could be started on this machine."""

    def launch(self, port: int) -> Launch:
        """How to start it on a loopback port."""


ENGINES: Final[Mapping[EngineName, Engine]] = {"mosquitto": mosquitto, "rumqttd": rumqttd}


def available_engines() -> tuple[EngineName, ...]:
    """Engines that can be started on this machine, in the order in which `auto` prefers them."""
    return tuple(name for name, engine in ENGINES.items() if engine.is_available())


@asynccontextmanager
async def start_broker(engine: EngineChoice = "auto", *, port: int = 0) -> AsyncIterator[RunningBroker]:
    """Run a broker on a loopback port, a free one for 0, for as long as the context lasts.

    On entry it answers MQTT 5; anybody on this machine may connect, nobody else. On exit the process
    is gone, and on Linux it also goes when this process dies by SIGKILL. Raises
    BrokerUnavailableError when no such engine is installed, the port is taken, or the engine ends
    at its start or stays silent; its last lines of stderr are in the message. Starting a process
    blocks the event loop for some milliseconds: on Linux it lives as long as the thread that starts it.
    """
    name = _choose(engine)
    with hold_port(LOOPBACK, port) as number:
        broker = RunningBroker(name, number, ENGINES[name].launch)
        try:
            await broker.restart()
            try:
                yield broker
            finally:
                await broker.stop()
        finally:
            broker.reap()


def _choose(choice: EngineChoice) -> EngineName:
    available = available_engines()
    if choice == "auto":
        if not available:
            msg = "neither mosquitto nor iotcore is installed; apt install mosquitto, or pip install iotcore"
            raise BrokerUnavailableError(msg)
        return available[0]
    if choice not in ENGINES:
        msg = f"there is no engine {choice!r}; choose auto, {', '.join(ENGINES)}"
        raise BrokerUnavailableError(msg)
    if choice not in available:
        msg = f"engine {choice!r} is not installed; {ENGINES[choice].REMEDY}"
        raise BrokerUnavailableError(msg)
    return choice
