"""Which cut is built: the one that is named, or the best of a profile's plan."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Final

from cloud_worker.build.cut.cuts import Cut
from cloud_worker.build.measure.profile_file import SplitProfile
from cloud_worker.build.plan.candidates import Site
from cloud_worker.build.plan.options import Planning
from cloud_worker.build.plan.ranking import Plan, Ranked, plan
from schemas.errors import ConfigError, PlanError
from schemas.policy import Route

_SHOWN: Final = 6
_SHARE_TOLERANCE: Final = 1e-3


def named_cut(found: Sequence[Cut], wanted: str) -> Cut:
    """The cut of that name, else of that number. Raises ConfigError where there is none, or where it is refused."""
    named = [cut for cut in found if wanted in {cut.name, *cut.modules}]
    fitting = named or [cut for cut in found if wanted == str(cut.index)]
    if not fitting:
        names = [cut.name for cut in found if cut.refused is None]
        near = difflib.get_close_matches(wanted, names, n=_SHOWN, cutoff=0.5) or spread([*names])
        msg = f"--cut {wanted!r} is no cut of this model; it has {', '.join(near) or 'none'}"
        raise ConfigError(msg)
    if fitting[0].refused is not None:
        msg = f"the model cannot be cut after {fitting[0].name} (cut {fitting[0].index}): {fitting[0].refused}"
        raise ConfigError(msg)
    return fitting[0]


def planned(
    found: Sequence[Cut],
    profile: SplitProfile,
    asked: Planning,
    no_head: Callable[[Cut], str | None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Cut, Plan, Ranked]:
    """The best cut of the profile that keeps to the constraints and whose head an edge runtime takes.

    `no_head` says why none takes it; then `say` is told, and the next best is looked at. Raises PlanError where no cut
    keeps to the constraints, ConfigError where the profile is of another model, and where none of those can be a head.
    """
    made = plan(profile, asked.link, asked.prices, asked.objective, asked.constraints)
    ranked = [each for each in made.ranked if each.candidate.site.route is Route.HYBRID_SPLIT]
    if not ranked:
        msg = f"the profile of {profile.model} has no cut; name one with --cut"
        raise ConfigError(msg)
    if not ranked[0].admissible:
        raise _nothing_keeps(profile.model, ranked[0])
    without: dict[int | None, str] = {}
    for each in ranked:
        site = each.candidate.site
        if not each.admissible or site.cut in without:
            continue
        cut = _cut_at(found, site)
        reason = no_head(cut)
        if reason is None:
            return cut, made, each
        without[site.cut] = reason
        say(f"{each.candidate} would be the best cut, but no edge runtime takes its head ({reason}); taking the next")
    msg = f"no edge runtime takes the head of cut {', '.join(map(str, without))}, and no other keeps to the constraints"
    raise ConfigError(f"{msg}; relax them, measure other cuts, or install the extra `build` for TFLite")


def _nothing_keeps(model: str, best: Ranked) -> PlanError:
    worst = max(best.misses, key=lambda miss: miss.share)
    return PlanError(
        model,
        candidate=str(best.candidate),
        misses=tuple(map(str, best.misses)),
        constraint=worst.constraint,
        limit=worst.limit,
        value=worst.value,
    )


def _cut_at(found: Sequence[Cut], site: Site) -> Cut:
    cut = next((cut for cut in found if cut.index == site.cut), None)
    if cut is None or abs(cut.share - site.macs_share) > _SHARE_TOLERANCE:
        msg = f"the profile's cut {site.cut} ({site.name}) is none of this model; measure this model, or name a --cut"
        raise ConfigError(msg)
    return named_cut([cut], cut.name)


def no_choice(found: Sequence[Cut]) -> ConfigError:
    """What to say when there is no cut to measure."""
    good = [cut for cut in found if cut.refused is None]
    if not good:
        reason = next((cut.refused for cut in found), "it has a single step")
        return ConfigError(f"the model cannot be cut anywhere: {reason}")
    shown = ", ".join(spread([f"{cut.name} ({cut.elements:,} values, {cut.share:.0%} of the MACs)" for cut in good]))
    fact = "no cut of this model is worth measuring and has a head that an edge runtime takes"
    return ConfigError(f"{fact}; name one with --cut: {shown}, or install the extra `build` for TFLite")


def spread(names: Sequence[str]) -> list[str]:
    """Some of them, from the first to the last."""
    count = min(_SHOWN, len(names))
    return [names[index * (len(names) - 1) // max(1, count - 1)] for index in range(count)]
