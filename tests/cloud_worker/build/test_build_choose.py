"""Which cut is built: the one that is named, or the best of a profile whose head an edge runtime takes."""

from __future__ import annotations

import pytest
import torch

from cloud_worker.build.choose import named_cut, planned
from cloud_worker.build.cut.cuts import Cut
from cloud_worker.build.export import heads
from cloud_worker.build.measure.profile_file import SplitProfile
from cloud_worker.build.plan.network import LINKS
from cloud_worker.build.plan.options import Planning
from cloud_worker.build.plan.ranking import Constraints, Objective
from schemas.errors import ConfigError, PlanError
from schemas.policy import Prices
from tests.cloud_worker.build.plan_profiles import tiny, tiny_profile


def cut(index: int, share: float, refused: str | None = None) -> Cut:
    return Cut(index, f"block.{index}", (f"block.{index}",), (), 8, int(share * 100), share, None, refused)


ASKED = Planning(LINKS["4G"], Prices(), Objective(), Constraints())


def test_a_cut_is_found_by_number_and_name() -> None:
    found = [cut(1, 0.3), cut(2, 0.6, "many tensors cross")]
    assert named_cut(found, "1") is named_cut(found, "block.1") is found[0]
    with pytest.raises(ConfigError, match=r"'block.3' is no cut of this model; it has block.1"):
        named_cut(found, "block.3")
    with pytest.raises(ConfigError, match=r"cannot be cut after block.2 \(cut 2\): many tensors cross"):
        named_cut(found, "2")


def test_the_plan_s_best_cut_is_taken_whatever_else_would_be_better() -> None:
    chosen, plan, best = planned([cut(1, 0.3)], tiny_profile(), ASKED)
    assert (chosen.index, best.candidate.site.cut) == (1, 1)
    assert plan.best.score <= best.score


def two_cuts() -> SplitProfile:
    """Cut 1, and behind it one like it but larger."""
    content = tiny()
    larger = [{**each, "bytes_p95": 900, "bytes_mean": 800} for each in content["cuts"][0]["points"]]
    behind = {"index": 2, "name": "block.2", "head_macs": 60, "macs_share": 0.6, "points": larger}
    content["cuts"].append({**content["cuts"][0], **behind})
    return SplitProfile.model_validate(content)


def test_a_cut_that_no_edge_runtime_takes_is_passed_over_and_said() -> None:
    said: list[str] = []
    found = [cut(1, 0.3), cut(2, 0.6)]
    reasons = {1: "NumPy has no Mish", 2: None}
    chosen, plan, best = planned(found, two_cuts(), ASKED, lambda each: reasons[each.index], said.append)
    assert (chosen.index, best.candidate.site.cut) == (2, 2)
    assert best is next(each for each in plan.ranked if each.candidate.site.cut == 2)
    assert len(said) == 1
    assert "cut 1 (block.1) through affine would be the best cut, but no edge runtime takes its head" in said[0]
    assert "(NumPy has no Mish); taking the next" in said[0]
    with pytest.raises(ConfigError, match=r"no edge runtime takes the head of cut 1, 2, and no other keeps"):
        planned(found, two_cuts(), ASKED, lambda _: "no luck")
    narrow = Planning(LINKS["4G"], Prices(), Objective(), Constraints(max_edge_macs_share=0.5))
    with pytest.raises(ConfigError, match=r"no edge runtime takes the head of cut 1, and no other keeps"):
        planned(found, two_cuts(), narrow, lambda each: reasons[each.index])


def test_what_a_head_needs_that_no_runtime_has_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "has_converter", lambda: False)
    example = torch.zeros(1, 4)
    assert heads.no_head(torch.nn.Sequential(torch.nn.Linear(4, 3)).eval(), example) is None
    told = heads.no_head(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Mish()).eval(), example)
    assert told is not None
    assert "head.npz: " in told
    assert "mish" in told
    assert "head.tflite: litert-torch is not installed here" in told


def test_a_profile_of_another_model_and_constraints_that_no_cut_keeps_to_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"the profile's cut 1 \(block.1\) is none of this model"):
        planned([cut(1, 0.5)], tiny_profile(), ASKED)
    with pytest.raises(PlanError, match=r"max_edge_macs_share is 0\.1, it has 0\.3"):
        planned(
            [cut(1, 0.3)],
            tiny_profile(),
            Planning(LINKS["4G"], Prices(), Objective(), Constraints(max_edge_macs_share=0.1)),
        )
