"""What a node counts, and how it tells: one record for Stats, `fleet inspect` and tests."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

from schemas.messages import Outcome, Stats
from schemas.policy import PrivacyLevel


class Tally:
    """Outcomes since the start, by route, source and the cloud's status; restricted ones are not among them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts: Counter[str] = Counter()
        self._clock = clock
        self._began = clock()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome, unless nothing may be said about it."""
        if outcome.privacy is PrivacyLevel.RESTRICTED:
            return
        self._counts["requests"] += 1
        self._counts[f"route_{outcome.route}"] += 1
        self._counts[f"source_{outcome.source}"] += 1
        self._counts[f"cloud_{outcome.cloud_status}"] += 1

    def stats(self, id_: str, troubles: Mapping[str, int], gauges: Mapping[str, float]) -> Stats:
        """What goes out on the stats topic, the troubles before the rest: whoever shows only some shows those."""
        counters = {"requests": self._counts["requests"], **troubles, **self._counts}
        return Stats(kind="edge", id=id_, uptime_s=self._clock() - self._began, counters=counters, gauges=dict(gauges))
