"""Embedded brokers: one `start_broker()` for demonstrations, tests and a single machine; loopback only."""

from broker.engines.ports import LOOPBACK, hold_port
from broker.engines.running import RunningBroker
from broker.engines.start import EngineChoice, EngineName, available_engines, start_broker

__all__ = [
    "LOOPBACK",
    "EngineChoice",
    "EngineName",
    "RunningBroker",
    "available_engines",
    "hold_port",
    "start_broker",
]
