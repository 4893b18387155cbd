"""What the payloads of one operating point are known to show of the samples: a lower bound, as it was measured.

`cloud_worker.build.leakage` measures it. A profile has one for each codec of each cut, a manifest one for each
operating point; the planner and the node keep to a limit on `ssim`.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from schemas.record import Record

MOST_DB: Final = 100.0
"""What equal images are said to have; their PSNR has no bound."""
LEAST_SAMPLES: Final = 100
"""Fewer samples to fit an attacker to make figures that bound nothing: it cannot but fail, whatever payloads show."""

Decibels = Annotated[float, Field(ge=-MOST_DB, le=MOST_DB)]
Similarity = Annotated[float, Field(ge=-1, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Leakage(Record):
    """A lower bound on what payloads leak about samples: what this attacker got, and a better one may get more.

    Figures are of held-out samples; None is not measured, or not defined for these samples. Beside some stands what is
    got without the payload: a payload that leaks little is near it, and one that leaks nothing to this attacker may
    still leak to another.

    SSIM and PSNR compare images, so they are None for signals and vectors: SSIM's windows and constants are those of
    pictures, and a peak is not defined. For these there are `r2` and the distance correlation.
    """

    ssim: Similarity | None = None
    """Of images made from payloads, by a linear inverter or as they arrive; 1 for perfect ones.

    None for samples that are no images of 11x11 pixels or more.
    """
    psnr_db: Decibels | None = None
    """Of the same, in dB; 100 for perfect ones."""
    r2: Annotated[float, Field(le=1)] | None = None
    """Share of the samples' variance about the mean training sample that was got back: 1 for all, 0 for none."""
    distance_correlation: Share | None = None
    """Between sample and payload: 1 for a payload that is the sample, moved, turned or scaled."""
    ssim_blind: Similarity | None = None
    """Of the mean training image."""
    psnr_db_blind: Decibels | None = None
    distance_correlation_blind: Share | None = None
    """Between samples and payloads of other samples: above 0, and the more so the fewer samples there are."""
    samples: Count
    """Samples that the attacker was fitted to; under 100 the figures bound nothing."""
    held_out: Count | None = None
    """Samples that the figures are of."""

    @property
    def few(self) -> bool:
        """Whether there were too few samples for the figures to bound anything."""
        return self.samples < LEAST_SAMPLES
