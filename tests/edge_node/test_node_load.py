"""A node under load, faults and cancellation, in virtual time: bounds hold, and nothing is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloud_worker.tails import NoOpTail
from edge_node.heads import HeadOutput
from edge_node.link_estimate import Line
from schemas.bundle_files import Bundle
from schemas.errors import ConfigError, SampleError
from schemas.policy import Route
from schemas.tensor import FloatArray
from tests.bundles import make_bundle, samples, tiny_manifest
from tests.edge_node.node_stage import CLOUD, HYBRID, Stage, SteadyTail, staged, until
from tests.virtual_time import run_virtually

SAMPLE = samples(1)[0]
POINT = tiny_manifest().points[0]


def test_300_requests_side_by_side_end_in_300_outcomes(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, SteadyTail(tiny.manifest, takes_s=0.01)) as scene:
            asked = [scene.node.infer(SAMPLE, deadline_ms=800) for _ in range(300)]
            outcomes = await asyncio.gather(*asked)
            assert len({outcome.request for outcome in outcomes}) == 300
            assert {outcome.cloud_status for outcome in outcomes} == {"ok", "busy"}
            assert all(outcome.source == ("cloud" if outcome.attempts else "edge") for outcome in outcomes)
            busy = next(outcome for outcome in outcomes if outcome.cloud_status == "busy")
            assert (busy.escalated, busy.bytes_up, busy.cost) == (False, 0, 0)
            assert "14 frames are in flight already" in busy.reason
            assert scene.pending() == 0
            assert scene.node.statistics().counters["requests"] == 300

    run_virtually(main())


def test_no_more_frames_are_in_flight_than_the_window_allows(tiny: Bundle) -> None:
    async def main() -> None:
        mute = SteadyTail(tiny.manifest, takes_s=100)
        async with staged(tiny, mute, policy=CLOUD) as scene:
            asked = asyncio.gather(*(scene.node.infer(SAMPLE, deadline_ms=200) for _ in range(100)))
            await asyncio.sleep(0.05)
            assert len({message.correlation for message in scene.heard}) == 14
            assert scene.pending() == 28
            assert {outcome.source for outcome in await asked} == {"edge"}

    run_virtually(main())


async def _fill(scene: Stage, count: int) -> list[asyncio.Task[object]]:
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(scene.node.infer(SAMPLE, deadline_ms=60_000)) for _ in range(count)
    ]
    await until(lambda: scene.topics().count("w") == count)
    return tasks


def test_cancelled_requests_leave_window_requester_and_breaker_as_they_were(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, SteadyTail(tiny.manifest, takes_s=100)) as scene:
            tasks = await _fill(scene, 8)
            assert scene.pending() == 16
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)
            assert scene.pending() == 0
            assert (scene.uplink.window.size, scene.uplink.breaker.failures) == (16, 0)
            assert not scene.uplink.breaker.probing

    run_virtually(main())


def test_the_breaker_opens_after_timeouts_lets_one_probe_through_and_closes(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest)) as scene:
            scene.broker.faults.drop_next = 1 << 30
            for power in range(5):
                assert (await scene.node.infer(SAMPLE, deadline_ms=200 * 5.0**power)).cloud_status == "timeout"
            held = await scene.node.infer(SAMPLE)
            assert (held.route, held.attempts) == (Route.FALLBACK_EDGE, 0)
            assert held.reason.startswith("the breaker is open after 5 failures in a row; exit ")

            await asyncio.sleep(2.1)
            scene.broker.faults.lost.clear()
            outcomes = await asyncio.gather(*(scene.node.infer(SAMPLE, deadline_ms=200) for _ in range(10)))
            assert {(outcome.source, outcome.attempts) for outcome in outcomes} == {("edge", 0)}
            await asyncio.sleep(5)
            assert len({message.correlation for message in scene.broker.faults.lost}) == 1
            assert (await scene.node.infer(SAMPLE)).route is Route.FALLBACK_EDGE

            scene.broker.faults.drop_next = 0
            await asyncio.sleep(4.1)
            assert (await scene.node.infer(SAMPLE)).source == "edge"
            await asyncio.sleep(1)
            after = await asyncio.gather(*(scene.node.infer(SAMPLE, deadline_ms=1e6) for _ in range(2)))
            assert {outcome.source for outcome in after} == {"cloud"}
            assert scene.uplink.breaker.opened == 1
            assert scene.node.statistics().counters["probes"] == 3

    run_virtually(main())


def test_without_an_exit_a_request_is_the_probe_and_cancelled_does_not_lock_the_breaker(tmp_path: Path) -> None:
    async def main() -> None:
        bundle = make_bundle(tmp_path, fields={"exit": None})
        async with staged(bundle, NoOpTail(bundle.manifest)) as scene:
            scene.broker.faults.drop_next = 1 << 30
            for _ in range(5):
                await scene.node.infer(SAMPLE, deadline_ms=200)
            await asyncio.sleep(2.1)
            probe = asyncio.create_task(scene.node.infer(SAMPLE, deadline_ms=60_000))
            await until(lambda: scene.uplink.breaker.probing)
            probe.cancel()
            await asyncio.wait({probe})
            scene.broker.faults.drop_next = 0
            assert (await scene.node.infer(SAMPLE)).source == "cloud"

    run_virtually(main())


def test_cloud_only_keeps_the_time_that_the_head_will_need(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest), policy=CLOUD) as scene:
            scene.broker.faults.drop_next = 1 << 30
            scene.node._orchestrator.estimates.head_ms.observe(50.0)
            started = asyncio.get_running_loop().time()
            outcome = await scene.node.infer(SAMPLE, deadline_ms=300)
            assert (outcome.source, outcome.cloud_status) == ("edge", "timeout")
            assert asyncio.get_running_loop().time() - started <= 0.3 - 2 * 0.05

    run_virtually(main())


def test_requests_without_time_to_ship_do_not_blame_the_cloud(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest)) as scene:
            estimates = scene.node._orchestrator.estimates
            estimates.link.line = Line(0.0, 0.0)
            for average in (estimates.head_ms, estimates.encode(POINT), estimates.compute(POINT)):
                average.observe(0.0)
            for _ in range(10):
                outcome = await scene.node.infer(SAMPLE, deadline_ms=2)
                assert (outcome.source, outcome.cloud_status, outcome.attempts) == ("edge", "timeout", 0)
                assert not outcome.escalated
                assert "no time was left to ship it" in outcome.reason
            assert (scene.uplink.breaker.failures, scene.uplink.window.size) == (0, 16)

    run_virtually(main())


def test_a_link_that_breaks_under_a_request_leaves_the_edge_answer(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, SteadyTail(tiny.manifest, takes_s=100)) as scene:
            tasks = await _fill(scene, 3)
            scene.bus.drop()
            down = await scene.node.infer(SAMPLE)
            assert (down.route, down.reason.split(";")[0]) == (Route.FALLBACK_EDGE, "the link to the broker is down")
            outcomes = await asyncio.gather(*tasks)
            assert {getattr(outcome, "source", None) for outcome in outcomes} == {"edge"}

    run_virtually(main())


def test_a_deadline_beyond_what_a_frame_can_say_will_do(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest)) as scene:
            assert (await scene.node.infer(SAMPLE, deadline_ms=1e9)).source == "cloud"
            with pytest.raises(ConfigError, match="deadline_ms is 0"):
                await scene.node.infer(SAMPLE, deadline_ms=0)

    run_virtually(main())


class BrokenHead:
    """A head whose interpreter failed."""

    runtime = "broken"

    def run(self, inputs: FloatArray) -> HeadOutput:
        raise MemoryError(f"the arena is full at {inputs.shape}")


def test_a_head_that_raises_fails_its_request_alone(tiny: Bundle) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest)) as scene:
            good = scene.node._orchestrator.head
            scene.node._orchestrator.head = BrokenHead()
            with pytest.raises(MemoryError, match="the arena is full"):
                await scene.node.infer(SAMPLE)
            assert scene.pending() == 0
            scene.node._orchestrator.head = good
            assert (await scene.node.infer(SAMPLE)).source == "cloud"

    run_virtually(main())


@pytest.mark.parametrize("sample", [SAMPLE.astype("float32"), SAMPLE[0], SAMPLE[None]], ids=["dtype", "row", "batch"])
def test_a_sample_of_another_kind_is_refused_with_both_named(tiny: Bundle, sample: FloatArray) -> None:
    async def main() -> None:
        async with staged(tiny, NoOpTail(tiny.manifest)) as scene:
            with pytest.raises(SampleError) as caught:
                await scene.node.infer(sample)
            given = f"{sample.dtype}{list(sample.shape)}".replace(" ", "")
            words = str(caught.value).replace(" ", "")
            assert "uint8[8,8,1]" in words
            assert given in words
            assert (scene.heard, scene.pending()) == ([], 0)

    run_virtually(main())


def test_without_exit_and_without_cloud_there_is_an_outcome_without_an_answer(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, fields={"exit": None})

    async def main() -> None:
        async with staged(bundle, NoOpTail(bundle.manifest), policy=HYBRID) as scene:
            answered = await scene.node.infer(SAMPLE)
            assert (answered.source, answered.escalated) == ("cloud", False)
            scene.broker.faults.drop_next = 1 << 30
            lost = await scene.node.infer(SAMPLE, deadline_ms=200)
            assert (lost.source, lost.cloud_status) == ("none", "timeout")
            scene.broker.faults.drop_next = 0
            scene.workers[0].drop()
            await asyncio.sleep(0.001)
            alone = await scene.node.infer(SAMPLE)
            assert (alone.source, alone.label, alone.label_name, alone.route) == (
                "none",
                None,
                "",
                Route.FALLBACK_EDGE,
            )

    run_virtually(main())
