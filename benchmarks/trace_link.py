"""A link that changes while it is used: phases as a moving node sees them, with jitter inside each."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.shaper import LinkProfile, Shaper

_STEP_S = 0.5
_JITTER = 0.06


@dataclass(frozen=True, slots=True)
class Phase:
    """One state of the link; None for an outage, in which connections stay open and nothing arrives."""

    name: str
    seconds: float
    link: LinkProfile | None


TRACE: tuple[Phase, ...] = (
    Phase("WiFi", 12, LinkProfile(rtt_ms=10, up_mbit=20, down_mbit=40)),
    Phase("4G", 14, LinkProfile(rtt_ms=70, up_mbit=5, down_mbit=20)),
    Phase("congested", 16, LinkProfile(rtt_ms=450, up_mbit=0.1, down_mbit=0.5, buffer_bytes=32 * 1024)),
    Phase("outage", 12, None),
    Phase("recovered", 16, LinkProfile(rtt_ms=70, up_mbit=5, down_mbit=20)),
    Phase("WiFi again", 12, LinkProfile(rtt_ms=10, up_mbit=20, down_mbit=40)),
)
"""Five real changes of the link."""


@dataclass(frozen=True, slots=True)
class Step:
    """What the link is like from `at_s` on."""

    at_s: float
    phase: Phase
    link: LinkProfile | None


def steps(trace: Sequence[Phase], seed: int) -> Iterator[Step]:
    """The trace in steps of half a second, round trip and rates each with a jitter of their own."""
    chance, begun = random.Random(seed), 0.0
    for phase in trace:
        for number in range(math.ceil(phase.seconds / _STEP_S)):
            yield Step(begun + number * _STEP_S, phase, phase.link and _shaken(phase.link, chance))
        begun += phase.seconds


def _shaken(link: LinkProfile, chance: random.Random) -> LinkProfile:
    rtt, rate = (chance.lognormvariate(0.0, _JITTER) for _ in range(2))
    return LinkProfile(link.rtt_ms * rtt, link.up_mbit * rate, link.down_mbit * rate, link.buffer_bytes)


async def play(plan: Sequence[Step], shapers: Sequence[Shaper], begun: float) -> None:
    """Put the steps to all links at their times; `begun` is a time of the running loop's clock."""
    stalled = False
    for step in plan:
        await asyncio.sleep(max(0.0, begun + step.at_s - asyncio.get_running_loop().time()))
        for shaper in shapers:
            if step.link is None:
                shaper.stall()
            else:
                shaper.set_profile(step.link)
                if stalled:
                    await shaper.heal()
        stalled = step.link is None
