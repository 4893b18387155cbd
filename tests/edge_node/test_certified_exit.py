"""Which threshold an answer of the exit is held to, what it says of itself, and which bundles a node refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.fleet.words import of_stats
from cloud_worker.tails import NoOpTail
from edge_node.bar import Bar, bar_of
from edge_node.node import EdgeNode, NodeConfig
from edge_node.stream import _ready
from schemas.binomial import upper_bound
from schemas.bundle import HEAD_INT8, HEAD_TFLITE, MANIFEST, Exit
from schemas.bundle_files import Bundle, open_bundle
from schemas.certificate import CERTIFICATE, Certificate
from schemas.errors import BundleError, MissingFileError
from schemas.messages import Outcome, Stats
from schemas.policy import PrivacyLevel, Route, TaskRoutingPolicy
from schemas.wire import decode_map, encode_map
from tests.bundles import make_bundle, samples, tiny_manifest
from tests.edge_node.commands import run
from tests.edge_node.head_files import DATA, write_bundle
from tests.edge_node.node_stage import EDGE, HYBRID, PRIVATE, staged
from tests.virtual_time import run_virtually

PROMISE = "at most 2 % wrong among its sure answers, with 95 % confidence (labels)"
PROMISE_WITHOUT_LABELS = "at most 2 % other than the cloud's among its sure answers, with 95 % confidence (agreement)"
LOW = 0.26
"""Any sample of the tiny pair is this sure: the most probable of four labels has more than a quarter."""


def certificate(threshold: float, **changes: Any) -> Certificate:
    """One of 1000 samples that all reach the threshold, three of them wrong."""
    fields = {
        "mode": "labels",
        "subject": tiny_manifest().pairing,
        "alpha": 0.02,
        "delta": 0.05,
        "samples": 1000,
        "grid": (threshold,),
        "starts": (threshold,),
        "tested": ((1000, 3),),
        "threshold": threshold,
        "covered": 1000,
        "errors": 3,
        "coverage": 1.0,
        "risk": 0.003,
        "risk_upper": upper_bound(3, 1000, 0.05),
        "temperature": 1.0,
        "ece_before": 0.1,
        "ece_after": 0.05,
    }
    return Certificate.model_validate({**fields, **changes})


def certified(path: Path, issued: Certificate, exit_: Mapping[str, Any] | None = None) -> Bundle:
    told = {"temperature": 1.0, "threshold": issued.threshold, "coverage": 1.0, "certified": True, **(exit_ or {})}
    return make_bundle(path, files={CERTIFICATE: issued.to_bytes()}, fields={"exit": told})


def ask(bundle: Bundle, policy: TaskRoutingPolicy, privacy: PrivacyLevel = PrivacyLevel.PUBLIC) -> Outcome:
    async def main() -> Outcome:
        async with staged(bundle, NoOpTail(bundle.manifest), policy=policy) as scene:
            return await scene.node.infer(samples(1)[0], privacy=privacy)

    return run_virtually(main())


@pytest.mark.parametrize(("threshold", "source"), [(LOW, "edge"), (0.99, "cloud")])
def test_an_answer_is_sure_by_the_certificate(tmp_path: Path, threshold: float, source: str) -> None:
    outcome = ask(certified(tmp_path, certificate(threshold)), HYBRID)
    assert outcome.source == source
    word = {"edge": "sure", "cloud": "unsure"}[source]
    assert f"; exit {word} at 0." in outcome.reason
    assert outcome.reason.endswith(f"(threshold {threshold:g}, certified)")


@pytest.mark.parametrize(("threshold", "attempts"), [(LOW, 0), (0.99, 1)])
@pytest.mark.parametrize("plain", [0.0, 1.0])
def test_an_answer_of_the_edge_alone_is_checked_below_the_certified_threshold_and_not_the_plain_one(
    tmp_path: Path, threshold: float, attempts: int, plain: float
) -> None:
    policy = PRIVATE.model_copy(update={"confidence_threshold": plain})
    outcome = ask(certified(tmp_path, certificate(threshold)), policy, PrivacyLevel.CONFIDENTIAL)
    assert (outcome.route, outcome.attempts, outcome.escalated) == (Route.EDGE_ONLY, attempts, bool(attempts))


@pytest.mark.parametrize(("plain", "source"), [(LOW, "edge"), (0.85, "cloud")])
@pytest.mark.parametrize("policy", [HYBRID, PRIVATE], ids=["hybrid", "edge only"])
def test_without_a_threshold_in_the_bundle_the_policy_has_the_word(
    tmp_path: Path, policy: TaskRoutingPolicy, plain: float, source: str
) -> None:
    bundle = make_bundle(tmp_path, fields={"exit": {"temperature": 1.0}})
    outcome = ask(bundle, policy.model_copy(update={"confidence_threshold": plain}), PrivacyLevel.CONFIDENTIAL)
    assert outcome.source == source
    assert outcome.reason.endswith(f"(threshold {plain:g} of the policy, not certified)")


def test_on_a_pinned_edge_the_reason_still_says_what_the_answer_is_worth(tmp_path: Path) -> None:
    outcome = ask(certified(tmp_path, certificate(0.99)), EDGE)
    assert (outcome.source, outcome.attempts) == ("edge", 0)
    assert outcome.reason.startswith("pinned by the policy; exit unsure at 0.")
    assert outcome.reason.endswith("(threshold 0.99, certified)")


POLICY = TaskRoutingPolicy(confidence_threshold=0.7)


@pytest.mark.parametrize(
    ("exit_", "issued", "bar", "standing"),
    [
        (
            Exit(temperature=1, threshold=0.9, coverage=1, certified=True),
            certificate(0.9),
            Bar(0.9, "certificate", certificate(0.9)),
            f"certified: {PROMISE}; sure from 0.9 on",
        ),
        (
            Exit(temperature=1, threshold=0.905, coverage=1),
            None,
            Bar(0.905, "calibration"),
            "not certified; sure from 0.905 on",
        ),
        (Exit(temperature=1), None, Bar(0.7, "policy"), "not certified; sure from the policy's 0.7 on"),
    ],
)
def test_who_says_what_is_sure(exit_: Exit, issued: Certificate | None, bar: Bar, standing: str) -> None:
    assert bar_of(exit_, issued, POLICY) == bar
    assert bar.standing() == standing


def test_a_node_without_an_exit_says_so(tmp_path: Path) -> None:
    node = EdgeNode(make_bundle(tmp_path, fields={"exit": None}), NodeConfig("cam-1"))
    assert node.bar is None
    assert _ready(node).endswith(" exit=none")


@pytest.mark.parametrize(
    ("exit_", "words"),
    [
        (None, ""),
        ({"temperature": 1.0}, "; exit not certified; sure from 0.85 on"),
        ({"temperature": 1.0, "threshold": 0.905, "coverage": 0.7}, "; exit not certified; sure from 0.905 on"),
    ],
)
def test_whoever_watches_the_fleet_reads_it_in_the_stats(tmp_path: Path, exit_: Any, words: str) -> None:
    node = EdgeNode(make_bundle(tmp_path / "plain", fields={"exit": exit_}), NodeConfig("cam-1"))
    assert re.fullmatch(rf"up 0 s; head_ms 5, [^;]*{re.escape(words)}", of_stats(node.statistics()))
    for mode, promise in (("labels", PROMISE), ("agreement", PROMISE_WITHOUT_LABELS)):
        issued = certificate(0.9, mode=mode)
        node = EdgeNode(certified(tmp_path / mode, issued), NodeConfig("cam-1"))
        said = of_stats(decode_map(Stats, encode_map(node.statistics())))
        assert said.endswith(f"; exit certified: {promise}; sure from 0.9 on")


async def test_the_command_says_at_the_start_what_is_promised(tmp_path: Path) -> None:
    bundle = certified(tmp_path / "bundle", certificate(LOW))
    ended = await run("--bundle", bundle.path, "--source", _array(tmp_path))
    assert ended.code == 0, ended
    assert ended.err.splitlines()[0].endswith(f' exit="certified: {PROMISE}; sure from 0.26 on"')
    assert ended.lines[0].endswith("(threshold 0.26, certified)")


async def test_the_command_refuses_the_certificate_of_another_head(tmp_path: Path) -> None:
    bundle = certified(tmp_path / "bundle", certificate(LOW, subject="0f" * 32))
    ended = await run("--bundle", bundle.path, "--source", _array(tmp_path))
    ended.check_clear("certificate.json is of another exit: subject is 0f0f", "certify this one")


def test_a_node_refuses_a_certificate_that_is_not_its_exits(tmp_path: Path) -> None:
    bundle = certified(tmp_path / "other", certificate(LOW), {"threshold": 0.2})
    with pytest.raises(BundleError, match=r"threshold is 0\.26, the manifest's exit\.threshold is 0\.2"):
        EdgeNode(bundle, NodeConfig("cam-1"))


def test_a_node_refuses_a_bundle_whose_certificate_is_gone(tmp_path: Path) -> None:
    bundle = certified(tmp_path / "gone", certificate(LOW))
    (bundle.path / CERTIFICATE).unlink()
    with pytest.raises(MissingFileError, match=r"certificate\.json"):
        EdgeNode(bundle, NodeConfig("cam-1"))


def test_a_bundle_cannot_be_made_certified_by_hand(tiny: Bundle, tmp_path: Path) -> None:
    manifest = json.loads((tiny.path / MANIFEST).read_text())
    manifest["exit"]["certified"] = True
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"exit\.certified is true where files names certificate\.json"):
        open_bundle(tmp_path)


def _array(tmp_path: Path) -> Path:
    path = tmp_path / "one.npy"
    np.save(path, samples(1))
    return path


def test_the_int8_head_is_not_the_one_that_was_certified(tmp_path: Path) -> None:
    issued = certificate(LOW, subject="0" * 64)
    heads = {HEAD_TFLITE: "small.tflite", HEAD_INT8: "small.int8.tflite"}
    files = {name: (DATA / file).read_bytes() for name, file in heads.items()}
    told = {"temperature": 1.0, "threshold": LOW, "coverage": 1.0, "certified": True}
    bundle = write_bundle(tmp_path / "bundle", {**files, CERTIFICATE: issued.to_bytes()}, exit=told)
    bars = [EdgeNode(bundle, NodeConfig("n", runtime=runtime)).bar for runtime in ("tflite", "int8")]
    assert [bar.certificate is not None for bar in bars if bar] == [True, False]
    assert str(bars[1]) == f"threshold {LOW:g}, not certified"
