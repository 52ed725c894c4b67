"""Errors of a model at held-out units of which 1, 4, 9 or 25 PSFs are observed; names as in trainables/asbuilt/system.py.

Shape legend: U = units, H = held-out positions, C = channel, K = kernel side in pixels, L = latent dimension, S = samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from deeplens_workers.asbuilt_data import OBSERVED
from spaces.seeding import named_seed
from trainables.asbuilt.data import AsBuiltSplit, observed
from trainables.asbuilt.network import AsBuiltCVAE
from trainables.asbuilt.quantities import Quantity, central, rms_radius
from trainables.learner import evaluating
from trainables.networks.gaussian import Gaussian, gaussian_kl
from trainables.psf.metrics import relative_l2

GIVEN = 4
"""PSFs of a unit that are observed where no other number is named."""
CHUNK = 32
"""Units decoded at once."""
ACTIVE_VARIANCE = 0.01
"""A latent dimension is active if its posterior mean varies by more over units (Burda et al. 2016, appendix C)."""
COVERED, SAMPLES = 0.9, 99
COVERED_UNITS, COVERED_POSITIONS = 64, 6
"""Of those held out: more would take seconds of every report."""


def name_of(count: int) -> str:
    """The error with so many PSFs observed."""
    return "rel_l2" if count == GIVEN else f"rel_l2_{count}"


def unit_errors(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean over positions of ||K_hat - K|| / ||K||: [U, H, C, K, K] twice -> [U]."""
    errors = relative_l2(predicted.flatten(0, 1), true.flatten(0, 1))
    return errors.view(true.shape[:2]).mean(dim=1)


def model_errors(model: AsBuiltCVAE, split: AsBuiltSplit) -> dict[str, Tensor]:
    """`rel_l2` of each unit [U] for each number of observed PSFs, by metric."""
    device = model.mean.device
    with evaluating(model):
        return {
            name_of(count): torch.cat(
                [
                    unit_errors(
                        model.predict(*(one.to(device) for one in (seen.kernels, seen.points, away.points))),
                        away.kernels.to(device),
                    )
                    for seen, away in _chunks(split, count)
                ]
            )
            for count in OBSERVED
        }


def evaluate(model: AsBuiltCVAE, split: AsBuiltSplit) -> dict[str, float]:
    """Every `val/` metric of a model. Nothing here depends on a weight of the loss."""
    errors = model_errors(model, split)
    device = model.mean.device
    seen = observed(split, GIVEN)
    with evaluating(model):
        posterior = model.encode(seen.kernels.to(device), seen.points.to(device))
        kl = gaussian_kl(posterior, model.prior).sum(dim=1).mean()
    return {
        **{f"val/{name}": float(values.mean()) for name, values in errors.items()},
        "val/kl": float(kl),
        "val/active_units": float((posterior.mu.var(dim=0, correction=0) > ACTIVE_VARIANCE).sum()),
        "val/coverage": float(coverage(model, split).mean()),
    }


def coverage(model: AsBuiltCVAE, split: AsBuiltSplit, count: int = GIVEN, quantity: Quantity = rms_radius) -> Tensor:
    """Share of each unit's RMS radii, or another quantity, inside the central 90 % of what the model draws: [U].

    A draw has its z of what is known with so many PSFs observed, and the decoder's residual error on top (`AsBuiltCVAE.sample`).
    """
    device = model.mean.device
    generator = torch.Generator().manual_seed(named_seed(0, "coverage"))
    shares = []
    with evaluating(model):
        for one in range(min(len(split), COVERED_UNITS)):
            unit = split.some(slice(one, one + 1))
            seen, away = observed(unit, count), unit.held_out
            step = max(1, away.points.shape[1] // COVERED_POSITIONS)
            true, points = away.kernels[0, ::step].to(device), away.points[:, ::step].to(device)
            posterior = model.known(seen.kernels.to(device), seen.points.to(device))
            noise = torch.randn(SAMPLES, model.config.latent_dim, generator=generator)
            known = Gaussian(*(one[0] for one in posterior))
            drawn = model.sample(known, points[0], noise.to(device), generator)
            low, _, high = central(quantity(drawn), COVERED)
            actual = quantity(true)
            shares.append(((low <= actual) & (actual <= high)).float().mean())
    return torch.stack(shares)


def _chunks(split: AsBuiltSplit, count: int) -> Iterator[tuple[AsBuiltSplit, AsBuiltSplit]]:
    """What is observed of some units, and what is held out."""
    for start in range(0, len(split), CHUNK):
        part = split.some(slice(start, start + CHUNK))
        yield observed(part, count), part.held_out
