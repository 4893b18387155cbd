"""How a node behaves, and how it announces itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.bus import QoS
from broker.presence import Announcer
from edge_node.heads import Runtime
from schemas.bundle_files import Bundle
from schemas.messages import Served
from schemas.policy import TaskRoutingPolicy
from schemas.topics import Topics, check_id


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How a node behaves; the bundle says what it runs."""

    node_id: str
    root: str = "sb"
    policy: TaskRoutingPolicy = field(default_factory=TaskRoutingPolicy)
    runtime: Runtime = "auto"
    work_qos: QoS = 0
    publish_outcomes: bool = False
    """Whether each outcome is published as JSON, about eight times a frame's bytes; restricted ones never are."""
    stats_every_s: float = 5.0

    def __post_init__(self) -> None:
        check_id(self.node_id, "node id")


def announcer_of(bundle: Bundle, config: NodeConfig) -> Announcer:
    """Birth and death of the node that runs this bundle."""
    manifest = bundle.manifest
    served = Served(
        model=manifest.name, line=manifest.line, version=manifest.edge_version, interface=manifest.interface
    )
    return Announcer("edge", config.node_id, (served,), Topics(config.root))
