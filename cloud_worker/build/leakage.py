"""How much of the image an observer of payloads gets back: a linear inverter and the distance correlation.

Images are float (N, C, H, W) within 0 to 1, payloads any tensors (N, ...) as the receiver decodes them.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from cloud_worker.build.likeness import MOST_DB, psnr_db, ssim
from schemas.errors import ConfigError
from schemas.record import Record

LARGEST: Final = 4096
"""Most samples or payload values that are solved for; with more of both, payloads are projected to this many."""
MOST_COMPARED: Final = 2000
"""Held-out samples that distances are taken of: their matrices have this many squared."""
_VALIDATION: Final = 0.2
_RIDGES: Final = tuple(10.0**power for power in range(-10, 4))
_SHUFFLES: Final = 4
_AXES: Final = 4
_LEAST: Final = 10

Decibels = Annotated[float, Field(ge=-MOST_DB, le=MOST_DB)]
Similarity = Annotated[float, Field(ge=-1, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Leakage(Record):
    """A lower bound on what payloads leak about images: what this attacker got, and a better one may get more.

    Figures are of held-out samples. Beside each stands what is got without the payload: a payload that leaks little
    is near it, and one that leaks nothing to this attacker may still leak to another.
    """

    psnr_db: Decibels
    """Of images that a linear inverter makes from payloads, in dB; 100 for a perfect one."""
    ssim: Similarity
    """Of the same; 1 for a perfect one."""
    distance_correlation: Share
    """Between image and payload: 1 for a payload that is the image, moved, turned or scaled."""
    psnr_db_blind: Decibels
    """Of the mean training image."""
    ssim_blind: Similarity
    distance_correlation_blind: Share
    """Between images and payloads of other images: above 0, and the more so the fewer samples there are."""
    samples: Annotated[int, Field(ge=1)]
    """Held-out samples."""
    trained: Annotated[int, Field(ge=1)]
    """Samples that the inverter was fitted to."""


class Inverter(NamedTuple):
    """Images from payloads, all flat, float64: image = (payload - payload_mean) @ into @ out + image_mean."""

    payload_mean: Tensor
    into: Tensor
    out: Tensor
    image_mean: Tensor
    ridge: float

    def __call__(self, payloads: Tensor) -> Tensor:
        """Flat images (N, P), within 0 to 1."""
        return (((payloads - self.payload_mean) @ self.into) @ self.out + self.image_mean).clamp(0, 1)


class _Solved(NamedTuple):
    """Singular vectors and values of centred payloads (n, d), n samples by d values, and what images project to."""

    payload_mean: Tensor
    image_mean: Tensor
    right: Tensor
    values: Tensor
    projected: Tensor

    def inverter(self, ridge: float) -> Inverter:
        """Ridge regression in closed form (Hoerl and Kennard 1970); `ridge` in units of the mean squared value."""
        squares = self.values.square()
        shrunk = self.values / (squares + ridge * squares.mean() + torch.finfo(squares.dtype).tiny)
        return Inverter(self.payload_mean, self.right * shrunk, self.projected, self.image_mean, ridge)


def measure(images: Tensor, payloads: Tensor, unseen: Tensor, unseen_payloads: Tensor, *, seed: int = 0) -> Leakage:
    """Fit the inverter to images and their payloads, and measure on unseen ones. Repeatable for a seed.

    The inverter is a ridge regression whose ridge is the best of 14 on a fifth of the training samples, fitted again
    to all of them. When both samples and payload values are more than 4096, payloads are first projected to 4096
    random Gaussian directions (Johnson and Lindenstrauss 1984), which loses some of what they leak. Distances are
    those of the first 2000 unseen samples. Memory grows with samples times pixels: shrink large images first. Raises
    ConfigError for shapes that do not fit, fewer than 10 training samples, images outside 0 to 1, sides below 11
    pixels, and what is not finite.
    """
    _check(images, payloads, unseen, unseen_payloads)
    rng = torch.Generator().manual_seed(seed)
    train, held = _projected(payloads.double().flatten(1), unseen_payloads.double().flatten(1), rng)
    inverter = fit_inverter(train, images.double().flatten(1), rng)
    found = inverter(held).reshape(unseen.shape)
    mean = images.double().mean(dim=0).expand(unseen.shape)
    few = unseen.double().flatten(1)[:MOST_COMPARED], unseen_payloads.double().flatten(1)[:MOST_COMPARED]
    correlation, blind = correlations(*few, rng)
    return Leakage(
        psnr_db=psnr_db(found, unseen),
        ssim=ssim(found, unseen),
        distance_correlation=correlation,
        psnr_db_blind=psnr_db(mean, unseen),
        ssim_blind=ssim(mean, unseen),
        distance_correlation_blind=blind,
        samples=len(unseen),
        trained=len(images),
    )


def fit_inverter(payloads: Tensor, images: Tensor, rng: torch.Generator) -> Inverter:
    """From flat payloads (N, D) to flat images (N, P), both float64; the ridge as `measure` says."""
    order = torch.randperm(len(images), generator=rng)
    apart = max(1, round(_VALIDATION * len(images)))
    held, kept = order[:apart], order[apart:]
    part = _solve(payloads[kept], images[kept])

    def loss(ridge: float) -> float:
        return float((part.inverter(ridge)(payloads[held]) - images[held]).square().mean())

    return _solve(payloads, images).inverter(min(_RIDGES, key=loss))


def distance_correlation(one: Tensor, other: Tensor) -> float:
    """Sample distance correlation of (N, ...) and (N, ...) by Euclidean distances (Szekely, Rizzo and Bakirov 2007).

    From 0 to 1; 0 when either does not vary. It is biased upwards: independent samples of many dimensions have far
    more than 0, so compare with `correlations`. Raises ConfigError for different lengths or fewer than 2 samples.
    """
    return _correlation(_distances(one, other), _distances(other, one))


def correlations(one: Tensor, other: Tensor, rng: torch.Generator) -> tuple[float, float]:
    """The distance correlation, and its mean over four shuffles of `other`, in which nothing belongs together."""
    distances, others = _distances(one, other), _distances(other, one)
    shuffles = [torch.randperm(len(one), generator=rng) for _ in range(_SHUFFLES)]
    blind = [_correlation(distances, others[order][:, order]) for order in shuffles]
    return _correlation(distances, others), sum(blind) / len(blind)


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """Distances within `one`, float64 (N, N), every row and column of mean 0."""
    if len(one) != len(other) or len(one) < 2:  # noqa: PLR2004 - a distance needs two
        msg = f"distance correlation takes equally many samples, at least 2, got {len(one)} and {len(other)}"
        raise ConfigError(msg)
    flat = one.double().flatten(1)
    apart = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    return apart - apart.mean(dim=0) - apart.mean(dim=1, keepdim=True) + apart.mean()


def _correlation(one: Tensor, other: Tensor) -> float:
    scale = float((one.square().mean() * other.square().mean()).sqrt())
    return min(1.0, max(0.0, float((one * other).mean()) / scale) ** 0.5) if scale > 0 else 0.0


def _solve(payloads: Tensor, images: Tensor) -> _Solved:
    """The smaller of the two Gram matrices decides the cost: at most LARGEST cubed after projection."""
    payload_mean, image_mean = payloads.mean(dim=0), images.mean(dim=0)
    left, values, right = torch.linalg.svd(payloads - payload_mean, full_matrices=False)
    return _Solved(payload_mean, image_mean, right.T, values, left.T @ (images - image_mean))


def _projected(train: Tensor, held: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    if min(train.shape) <= LARGEST:
        return train, held
    directions = torch.randn(train.shape[1], LARGEST, generator=rng, dtype=train.dtype) / LARGEST**0.5
    return train @ directions, held @ directions


def _check(images: Tensor, payloads: Tensor, unseen: Tensor, unseen_payloads: Tensor) -> None:
    given = [list(each.shape) for each in (images, payloads, unseen, unseen_payloads)]
    alike = images.shape[1:] == unseen.shape[1:] and payloads.shape[1:] == unseen_payloads.shape[1:]
    paired = len(images) == len(payloads) and len(unseen) == len(unseen_payloads)
    if not (alike and paired and images.dim() == _AXES and payloads.numel() and len(unseen) > 1):
        msg = f"leakage takes images (N, C, H, W) with payloads (N, ...), twice, alike but for N, got {given}"
        raise ConfigError(msg)
    if len(images) < _LEAST:
        msg = f"leakage: {len(images)} training samples; give at least {_LEAST}, and thousands for a bound worth having"
        raise ConfigError(msg)
    if not all(each.isfinite().all() for each in (images, payloads, unseen, unseen_payloads)):
        msg = "leakage: an image or a payload is not finite; look for the sample that makes it so"
        raise ConfigError(msg)
    if any(each.min() < 0 or each.max() > 1 for each in (images, unseen)):
        msg = "leakage: images have values outside 0 to 1; divide pixels by 255 and do not normalise them"
        raise ConfigError(msg)
