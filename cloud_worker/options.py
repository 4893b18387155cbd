"""The worker's options: each from the command line, else from the environment, else the default."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from broker.address import BrokerAddress
from broker.options import Option, flag, host_id, log_level, number, read_options, variable, whole
from cloud_worker.settings import WorkerSettings
from schemas.errors import ConfigError
from schemas.topics import check_id


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Everything that `cloud-worker run` was told; checked."""

    bundles: tuple[str, ...]
    broker: BrokerAddress
    id: str
    root: str
    torch_threads: int
    trust_unsigned: bool
    connect_timeout_s: float
    log_level: str
    settings: WorkerSettings


def default_id() -> str:
    """Host name and process id, as one topic level: two workers of one host, or of one image, never share it."""
    return f"{host_id()}-{os.getpid()}"


OPTIONS: Final[dict[str, Option]] = {
    "bundle": Option(str, None, "folder or zip file of a bundle; may be repeated", kind="list"),
    "broker": Option(BrokerAddress.parse, "mqtt://127.0.0.1:1883", "mqtt://[user[:password]@]host[:port], or mqtts://"),
    "id": Option(lambda text: check_id(text, "worker id"), default_id(), "name in topics; host name and process id"),
    "root": Option(lambda text: check_id(text, "topic root"), "sb", "first level of every topic"),
    "max-batch": Option(whole(1, 1024), "16", "samples that run together at most"),
    "max-delay-ms": Option(number(0, 10_000), "0", "how long a batch waits for company; 0 is greedy"),
    "max-queue": Option(whole(1, 1_000_000), "256", "samples that wait at most; beyond it a frame is refused"),
    "torch-threads": Option(whole(1, 1024), "1", "threads of one operation"),
    "work-qos": Option(whole(0, 1), "0", "QoS of frames and replies"),
    "stats-every": Option(number(0.1, 3600), "5", "seconds between two Stats"),
    "stuck-after": Option(number(0.1, 3600), "30", "seconds without progress until the worker leaves its lines"),
    "connect-timeout": Option(number(0.1, 3600), "10", "seconds to wait for the broker at the start"),
    "log-level": log_level("info"),
    "trust-unsigned": flag("load tails without a signature: a .pt2 file is code"),
}


def run_options(arguments: argparse.Namespace, environment: Mapping[str, str]) -> RunOptions:
    """Checked options. Raises ConfigError, naming the option or the variable, for a value that cannot be used."""
    value = read_options(OPTIONS, arguments, environment)
    if not value["bundle"]:
        msg = f"no bundle is given; name one with --bundle, or with {variable('bundle')}"
        raise ConfigError(msg)
    return RunOptions(
        bundles=value["bundle"],
        broker=value["broker"],
        id=value["id"],
        root=value["root"],
        torch_threads=value["torch-threads"],
        trust_unsigned=value["trust-unsigned"],
        connect_timeout_s=value["connect-timeout"],
        log_level=value["log-level"],
        settings=WorkerSettings(
            max_batch=value["max-batch"],
            max_delay_s=value["max-delay-ms"] / 1000,
            max_queue=value["max-queue"],
            work_qos=value["work-qos"],
            stats_every_s=value["stats-every"],
            stuck_after_s=value["stuck-after"],
        ),
    )
