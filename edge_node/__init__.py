"""The edge half: routes a sample, runs the head, answers by itself or asks the cloud. Never imports torch."""

from __future__ import annotations

from edge_node.node import EdgeNode, NodeConfig, open_node
from schemas.messages import Outcome
from schemas.policy import PrivacyLevel, Route, TaskRoutingPolicy

__all__ = ["EdgeNode", "NodeConfig", "Outcome", "PrivacyLevel", "Route", "TaskRoutingPolicy", "open_node"]
