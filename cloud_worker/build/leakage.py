"""How much of the samples an observer of payloads gets back: a linear inverter and the distance correlation.

Images are float (N, C, H, W) within 0 to 1, other samples any tensors (N, ...), payloads any tensors (N, ...) as the
receiver decodes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from cloud_worker.build.likeness import WINDOW, psnr_db, ssim
from schemas.errors import ConfigError
from schemas.leakage import Leakage

__all__ = ["LEAST", "Inverter", "Leakage", "correlations", "distance_correlation", "fit_inverter", "measure"]

LARGEST: Final = 8192
"""Most payload values that are solved for; more are projected to this many."""
MOST_COMPARED: Final = 2000
"""Held-out samples that distances are taken of: their matrices have this many squared."""
LEAST: Final = 4
"""Training samples without which there is no inverter."""
_VALIDATION: Final = 0.2
_RIDGES: Final = tuple(10.0**power for power in range(-10, 4))
_SHUFFLES: Final = 4
_AXES: Final = 4
_CHUNK: Final = 64

Judge = Callable[[Tensor], dict[str, float | None]]
"""Figures of what was made of the held-out samples, shaped as they are, by their names in the record."""


class Inverter(NamedTuple):
    """Samples from payloads, all flat, float64: sample = (payload - payload_mean) @ into @ out + sample_mean."""

    payload_mean: Tensor
    into: Tensor
    out: Tensor
    sample_mean: Tensor
    ridge: float
    images: bool
    """Whether samples are within 0 to 1."""

    def __call__(self, payloads: Tensor) -> Tensor:
        """Flat samples (N, P)."""
        found = ((payloads - self.payload_mean) @ self.into) @ self.out + self.sample_mean
        return found.clamp(0, 1) if self.images else found


class _Solved(NamedTuple):
    """Singular vectors and values of centred payloads (n, d), n samples by d values, and what samples project to."""

    payload_mean: Tensor
    sample_mean: Tensor
    right: Tensor
    values: Tensor
    projected: Tensor

    def inverter(self, ridge: float, *, images: bool) -> Inverter:
        """Ridge regression in closed form (Hoerl and Kennard 1970); `ridge` in units of the mean squared value."""
        squares = self.values.square()
        shrunk = self.values / (squares + ridge * squares.mean() + torch.finfo(squares.dtype).tiny)
        return Inverter(self.payload_mean, self.right * shrunk, self.projected, self.sample_mean, ridge, images)


def measure(
    samples: Tensor,
    payloads: Tensor,
    unseen: Tensor,
    unseen_payloads: Tensor,
    *,
    images: bool = True,
    shown: Tensor | None = None,
    seed: int = 0,
) -> Leakage:
    """Fit the inverter to samples and their payloads, and measure on unseen ones. Repeatable for a seed.

    The inverter is a ridge regression whose ridge is the best of 14 on a fifth of the training samples, fitted again
    to all of them. Payloads of more than 8192 values are first projected to so many by adding each value, with a random
    sign, to one of them (Charikar, Chen and Farach-Colton 2002), which loses some of what they leak. `shown` are the
    unseen samples as payloads show them without any inverter, where they do; then each figure is that of the better
    attacker. Distances are those of the first 2000 unseen samples. Memory grows with samples times their values: shrink
    large ones first.

    Raises ConfigError for shapes that do not fit, fewer than 4 training samples, images outside 0 to 1, and what is not
    finite.
    """
    _check(samples, payloads, unseen, unseen_payloads, images=images)
    rng = torch.Generator().manual_seed(seed)
    train, held = _projected(payloads.flatten(1), unseen_payloads.flatten(1), rng)
    inverter = fit_inverter(train, samples.double().flatten(1), rng, images=images)
    mean = samples.double().mean(dim=0).expand(unseen.shape)
    guesses = [inverter(held).reshape(unseen.shape), *([] if shown is None else [shown.double()])]
    few = unseen.double().flatten(1)[:MOST_COMPARED], held[:MOST_COMPARED]
    correlation, blind = correlations(*few, rng)
    judge = _judge(unseen.double(), mean, images=images)
    alone = judge(mean)
    return Leakage(
        **_best([judge(each) for each in guesses]),
        distance_correlation=correlation,
        ssim_blind=alone.get("ssim"),
        psnr_db_blind=alone.get("psnr_db"),
        distance_correlation_blind=blind,
        samples=len(samples),
        held_out=len(unseen),
    )


def _judge(unseen: Tensor, mean: Tensor, *, images: bool) -> Judge:
    """SSIM where there is one, PSNR of images, and the share of the variance of any samples that vary."""
    spread = float((unseen - mean).square().sum())

    def judge(found: Tensor) -> dict[str, float | None]:
        lost = float((unseen - found).square().sum())
        figures: dict[str, float | None] = {"r2": 1 - lost / spread if spread > 0 else None}
        if images:
            figures["psnr_db"] = psnr_db(found, unseen)
            figures["ssim"] = ssim(found, unseen) if min(unseen.shape[2:]) >= WINDOW else None
        return figures

    return judge


def _best(found: Sequence[dict[str, float | None]]) -> dict[str, Any]:
    """Each figure by the attacker that did best at it."""
    known = {name: [each[name] for each in found] for name in found[0]}
    return {name: max((each for each in values if each is not None), default=None) for name, values in known.items()}


def fit_inverter(payloads: Tensor, samples: Tensor, rng: torch.Generator, *, images: bool = True) -> Inverter:
    """From flat payloads (N, D) to flat samples (N, P), both float64; the ridge as `measure` says."""
    order = torch.randperm(len(samples), generator=rng)
    apart = max(1, round(_VALIDATION * len(samples)))
    held, kept = order[:apart], order[apart:]
    part = _solve(payloads[kept], samples[kept])

    def loss(ridge: float) -> float:
        return float((part.inverter(ridge, images=images)(payloads[held]) - samples[held]).square().mean())

    return _solve(payloads, samples).inverter(min(_RIDGES, key=loss), images=images)


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


def _solve(payloads: Tensor, samples: Tensor) -> _Solved:
    """Takes about the larger of N and D times the square of the smaller one."""
    payload_mean, sample_mean = payloads.mean(dim=0), samples.mean(dim=0)
    left, values, right = torch.linalg.svd(payloads - payload_mean, full_matrices=False)
    return _Solved(payload_mean, sample_mean, right.T, values, left.T @ (samples - sample_mean))


def _projected(train: Tensor, held: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Both as float64 with at most LARGEST values a payload."""
    values = train.shape[1]
    if values <= LARGEST:
        return train.double(), held.double()
    place = torch.randint(LARGEST, (values,), generator=rng)
    sign = torch.randint(2, (values,), generator=rng).double() * 2 - 1

    def added(part: Tensor) -> Tensor:
        return torch.zeros(len(part), LARGEST, dtype=torch.float64).index_add_(1, place, part.double() * sign)

    projected = [torch.cat([added(part) for part in torch.split(each, _CHUNK)]) for each in (train, held)]
    return projected[0], projected[1]


def _check(samples: Tensor, payloads: Tensor, unseen: Tensor, unseen_payloads: Tensor, *, images: bool) -> None:
    given = [list(each.shape) for each in (samples, payloads, unseen, unseen_payloads)]
    alike = samples.shape[1:] == unseen.shape[1:] and payloads.shape[1:] == unseen_payloads.shape[1:]
    paired = len(samples) == len(payloads) and len(unseen) == len(unseen_payloads)
    shaped = (samples.dim() == _AXES or not images) and samples.numel() and payloads.numel()
    if not (alike and paired and shaped and len(unseen) > 1):
        wanted = "images (N, C, H, W)" if images else "samples (N, ...)"
        msg = f"leakage takes {wanted} with payloads (N, ...), twice, alike but for N, got {given}"
        raise ConfigError(msg)
    if len(samples) < LEAST:
        msg = f"leakage: {len(samples)} training samples; give at least {LEAST}, and hundreds for a bound worth having"
        raise ConfigError(msg)
    if not all(each.isfinite().all() for each in (samples, payloads, unseen, unseen_payloads)):
        msg = "leakage: a sample or a payload is not finite; look for the sample that makes it so"
        raise ConfigError(msg)
    if images and any(each.min() < 0 or each.max() > 1 for each in (samples, unseen)):
        msg = "leakage: images have values outside 0 to 1; divide pixels by 255 and do not normalise them"
        raise ConfigError(msg)
