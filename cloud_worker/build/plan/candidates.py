"""Every way to run a profiled model over a link, with what it is expected to take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from cloud_worker.build.measure.profile_file import CodingPoint, Quality, SplitProfile, Spread
from cloud_worker.build.plan.network import DOWN_BYTES, MESSAGES, UP_BEYOND_BYTES, Link, segments_of
from schemas.leakage import Leakage
from schemas.policy import Prices, Route

_NOTHING: Final = Spread(p50=0, p95=0)
_SHOWN_CHARS: Final = 60


class Stages(NamedTuple):
    """One sample's way, in its order, in milliseconds."""

    edge_ms: float
    """Preprocessing, then the head or the whole model."""
    encode_ms: float
    up_ms: float
    """The frame, its repetitions after a loss included, and what a request takes beyond its stages."""
    cloud_ms: float
    """Decoding, then the tail, or preprocessing and the whole model."""
    down_ms: float

    @property
    def transfer_ms(self) -> float:
        """Up and down."""
        return self.up_ms + self.down_ms

    @property
    def total_ms(self) -> float:
        """From the sample to the answer."""
        return self.edge_ms + self.encode_ms + self.up_ms + self.cloud_ms + self.down_ms


@dataclass(frozen=True, slots=True)
class Site:
    """Where the model is cut, if it is."""

    route: Route
    cut: int | None
    """0 is the input, so that all is in the cloud; None when all is on the edge."""
    name: str
    macs_share: float
    """Share of the multiply-accumulates on the edge."""
    edge_ms: Spread
    cloud_ms: Spread


@dataclass(frozen=True, slots=True)
class Candidate:
    """A site with an operating point. Bytes are those of both directions, MQTT included, and 0 on the edge alone."""

    site: Site
    point: CodingPoint | None
    """None on the edge alone."""
    quality: Quality
    p50: Stages
    p95: Stages
    """As if all stages were slow at once; where they are independent, the real figure is lower."""
    mean_ms: float
    """Computation at its median, the mean size, and the expected delay by losses."""
    bytes_mean: float
    bytes_p95: float
    cost_per_1000: float
    """US dollars for a thousand inferences."""

    @property
    def frame_bytes_p95(self) -> float:
        """Of the frame up, 0 when none is sent."""
        return 0.0 if self.point is None else self.bytes_p95 - DOWN_BYTES

    @property
    def leakage(self) -> Leakage | None:
        """What the payload shows of the input, at least; None when it was not measured, and when nothing is sent."""
        return None if self.point is None else self.point.leakage

    @property
    def ssim(self) -> float | None:
        """Likeness of what the cloud can see: 0 when it sees nothing, 1 for the input itself unless measured."""
        if self.leakage is not None and self.leakage.ssim is not None:
            return self.leakage.ssim
        return {Route.EDGE_ONLY: 0.0, Route.CLOUD_ONLY: 1.0}.get(self.site.route)

    @property
    def codec(self) -> str:
        """The codec's id with the plain values of its configuration, for people; a dash when nothing is encoded."""
        if self.point is None:
            return "-"
        plain = [f"{key}={value}" for key, value in self.point.config.items() if isinstance(value, str | int | float)]
        text = " ".join([self.point.codec, *plain])
        shown = text if text.isprintable() else ascii(text)
        return shown if len(shown) <= _SHOWN_CHARS else f"{shown[: _SHOWN_CHARS - 3]}..."

    def __str__(self) -> str:
        where = self.site.name if self.site.cut is None else f"cut {self.site.cut} ({self.site.name})"
        return where if self.point is None else f"{where} through {self.codec}"


class _Delay(NamedTuple):
    """What losses add to the way up, and all of the way down, in milliseconds."""

    up: float
    down: float

    def later(self, by_ms: float) -> _Delay:
        """With so much more on the way up."""
        return self._replace(up=self.up + by_ms)


class _Delays(NamedTuple):
    """For frames of so many segments."""

    p50: _Delay
    p95: _Delay
    mean_over_p50_ms: float


class Pricing:
    """Prices candidates for one link."""

    def __init__(self, link: Link, prices: Prices) -> None:
        self._link, self._prices = link, prices
        self._delays = cache(self._delays_of)

    def candidates(self, profile: SplitProfile) -> Iterator[Candidate]:
        """The input through each codec first, then every operating point of every cut, the edge alone last."""
        for site, points in _sites(profile):
            yield from (self.shipped(site, point, profile.request_ms) for point in points)
        yield self.kept(profile)

    def shipped(self, site: Site, point: CodingPoint, request_ms: float = 0.0) -> Candidate:
        """A candidate that sends something; a request takes so long beyond its stages."""
        usual = point.bytes_mean + UP_BEYOND_BYTES
        most = max(usual, point.bytes_p95 + UP_BEYOND_BYTES)
        of_usual, of_most = self._delays(segments_of(usual)), self._delays(segments_of(most))
        p50 = self._stages(site.edge_ms.p50, point, usual, of_usual.p50.later(request_ms), site.cloud_ms.p50)
        cost = self._prices.cost(cloud_ms=p50.cloud_ms, bytes_total=usual + DOWN_BYTES, messages=MESSAGES)
        return Candidate(
            site=site,
            point=point,
            quality=point.quality,
            p50=p50,
            p95=self._stages(site.edge_ms.p95, point, most, of_most.p95.later(request_ms), site.cloud_ms.p95),
            mean_ms=p50.total_ms + of_usual.mean_over_p50_ms,
            bytes_mean=usual + DOWN_BYTES,
            bytes_p95=most + DOWN_BYTES,
            cost_per_1000=1000 * cost,
        )

    def kept(self, profile: SplitProfile) -> Candidate:
        """The whole model on the edge: no bytes, no cost."""
        edge = _after(profile.preprocess_ms, profile.edge_only.edge_ms)
        return Candidate(
            site=Site(Route.EDGE_ONLY, None, "whole model", 1.0, edge, _NOTHING),
            point=None,
            quality=profile.edge_only.quality,
            p50=Stages(edge.p50, 0, 0, 0, 0),
            p95=Stages(edge.p95, 0, 0, 0, 0),
            mean_ms=edge.p50,
            bytes_mean=0,
            bytes_p95=0,
            cost_per_1000=0,
        )

    def _stages(self, edge_ms: float, point: CodingPoint, frame: float, delay: _Delay, cloud_ms: float) -> Stages:
        return Stages(
            edge_ms, point.encode_ms, self._link.up_ms(frame) + delay.up, point.decode_ms + cloud_ms, delay.down
        )

    def _delays_of(self, frame_segments: int) -> _Delays:
        """The reply is one more segment that may be lost."""
        segments, reply_ms = frame_segments + 1, self._link.down_ms
        p50, p95 = (self._link.resend_ms(segments, quantile) for quantile in (0.5, 0.95))
        shared = [_Delay(each - each / segments, reply_ms + each / segments) for each in (p50, p95)]
        return _Delays(shared[0], shared[1], self._link.resend_mean_ms(segments) - p50)


def _sites(profile: SplitProfile) -> Iterator[tuple[Site, tuple[CodingPoint, ...]]]:
    whole, before = profile.cloud_only, profile.preprocess_ms
    yield Site(Route.CLOUD_ONLY, 0, "input", 0.0, _NOTHING, _after(before, whole.cloud_ms)), whole.points
    for cut in profile.cuts:
        edge_ms = _after(before, cut.edge_ms)
        yield Site(Route.HYBRID_SPLIT, cut.index, cut.name, cut.macs_share, edge_ms, cut.cloud_ms), cut.points


def _after(preprocess_ms: float, net_ms: Spread) -> Spread:
    return Spread(p50=preprocess_ms + net_ms.p50, p95=preprocess_ms + net_ms.p95) if preprocess_ms else net_ms
