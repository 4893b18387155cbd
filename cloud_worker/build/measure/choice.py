"""Which cuts of a model are worth measuring: a rule that looks at shapes and multiply-accumulates alone.

1. Refused cuts are out, and those before the first multiply-accumulate or after the last: they are cloud-only and
   edge-only under another name.
2. A module is a block when one of its own steps leaves several tensors to cross (a skip runs past it), its end can be
   cut, and it holds at most half of the multiply-accumulates. Cuts inside a block are out, its end stays.
3. A cut is out when another has fewer elements for no more multiply-accumulates; where it has fewer
   multiply-accumulates, the cut may have a tenth more elements, as a class token makes. Of those that are alike in
   both, the last stays: what lies between them costs next to nothing.
4. While there are too many, the earlier of the two neighbours that are most alike goes; the first and the last stay.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

from cloud_worker.build.cut.cuts import Cut
from schemas.errors import ConfigError

MOST_CUTS: Final = 12
_LARGEST_BLOCK: Final = 0.5
_ALIKE: Final = 1.1


def worth_measuring(cuts: Sequence[Cut], most: int = MOST_CUTS) -> list[Cut]:
    """At most so many of a model's cuts, from the input on; empty when none can be made. The module says which.

    Raises ConfigError for `most` below 1.
    """
    if most < 1:
        msg = f"at most {most} cuts are to be measured; allow 1 or more"
        raise ConfigError(msg)
    return _thinned(_undominated(_outside_blocks([cut for cut in cuts if _splits(cut)])), most)


def _splits(cut: Cut) -> bool:
    return cut.refused is None and 0 < cut.share < 1


def _parent(cut: Cut) -> str:
    """The module that the head's last step leaves unfinished; empty for the model itself."""
    if cut.modules:
        return cut.modules[0].rpartition(".")[0]
    return cut.name.partition("#")[0].rpartition("/")[0]


def _outside_blocks(cuts: Sequence[Cut]) -> list[Cut]:
    ends = {module: cut.share for cut in cuts for module in cut.modules}
    crossed = {_parent(cut) for cut in cuts if len(cut.tensors) > 1}
    blocks = {name for name in crossed & ends.keys() if ends[name] - _before(name, cuts) <= _LARGEST_BLOCK}
    return [cut for cut in cuts if not any(_is_within(_parent(cut), block) for block in blocks)]


def _before(block: str, cuts: Sequence[Cut]) -> float:
    """Share of the multiply-accumulates that come before the first cut inside a block, its own first step's too."""
    first = next(place for place, cut in enumerate(cuts) if _is_within(_parent(cut), block))
    return cuts[first - 1].share if first else 0.0


def _is_within(module: str, block: str) -> bool:
    return module == block or module.startswith(f"{block}.")


def _undominated(cuts: Sequence[Cut]) -> list[Cut]:
    """In order of the cuts, whose multiply-accumulates never fall."""
    kept: list[Cut] = []
    for cut in cuts:
        while kept and kept[-1].macs == cut.macs and kept[-1].elements >= cut.elements:
            kept.pop()
        if not kept or (kept[-1].macs < cut.macs and cut.elements <= _ALIKE * min(each.elements for each in kept)):
            kept.append(cut)
    return kept


def _thinned(cuts: Sequence[Cut], most: int) -> list[Cut]:
    kept = list(cuts)
    if most == 1:
        return kept[-1:]
    while len(kept) > most:
        gaps = [_unlike(one, other) for one, other in itertools.pairwise(kept)]
        place = min(range(len(gaps)), key=gaps.__getitem__)
        kept.pop(place or 1)
    return kept


def _unlike(one: Cut, other: Cut) -> float:
    """Share of the work between two cuts, and octaves between their sizes, 16 of which count as all of the work."""
    return other.share - one.share + abs(math.log2(one.elements / other.elements)) / 16
