"""What the decoder leaves of a unit's light, as a distribution: without it, units that are drawn would be too much alike.

A decoder's kernel is a mean. By the law of total variance units spread by what their means spread, and by what is left about a mean.
White noise of pixels is no such residual: what is wrong with a decoded kernel is, for the most part, how its light spreads. So a
unit's kernel is the decoder's K, tilted exponentially: K exp(amounts . statistics), of unit sum again. That is the kernel that has
other means of these statistics and else is as near to K as can be (Kullback 1959, "Information Theory and Statistics", ch. 3); it is
not negative, and dark where K is. The two statistics are the light far out and the light about the core, functions of the squared
distance from the centroid that are bounded, so that no exponent is large.

Amounts are Gaussian: their mean and the logarithm of their variance are linear in features of a decoded kernel (`LightResiduals`),
colours correlate, and over the field they change as exp(-distance / `reach`) does. All that is measured once, when a model is trained:
of training units, whose z is drawn from q given some of their PSFs, at their other positions. That these were trained on matters little:
of 2,000 units of the triplet that a model never saw RMS radii at the corner are 0.165 px off what is expected, where it expects 0.160.

Shape legend: n = units, T = positions of a unit, N = kernels, C = channel, K = kernel side in pixels, P = K K, H = the decoder's
hidden units, S = statistics, D = C S amounts, W = features, d = condition dimension, F = frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from deeplens_workers.threads import one_thread
from spaces.seeding import named_seed
from trainables.asbuilt.data import GRID
from trainables.learner import evaluating

if TYPE_CHECKING:
    from trainables.asbuilt.data import AsBuiltSplit
    from trainables.asbuilt.network import AsBuiltCVAE

STATISTICS = 2
FARTHEST = 16.0
"""Squared distance, in units of the kernel's mean square radius, beyond which light far out counts hardly more."""
TINY = 1e-6
"""Square pixels: no kernel is so narrow."""
TRUST = 3e-3
"""Weight of the amounts' squares against the likelihood: where a kernel has no light, nothing else bounds them."""
STEPS = 15
"""Of Newton's method to the amounts, each at most 1."""
RIDGE = 4e-3
"""Of both regressions, for each kernel: of `features` in units of their deviations."""
MEASURED_UNITS = 1000
TARGETS, TURNS = 0.4, 2
"""Share of a unit's positions at which residuals are measured, with z of the others; and how often, each time of other positions."""
CHUNK = 50
"""Units decoded at once."""
REACHES = torch.logspace(-1.5, 1, 61)
"""Of which the one is taken that correlations of pairs fit best; the field is 2 wide."""
FREQUENCIES = 32
"""Of each unit's residual."""
LOG_VARIANCES = -14.0, 3.0


def spread_light(kernels: Tensor, amounts: Tensor) -> Tensor:
    """Kernels [..., K, K] of unit sum, tilted by amounts [..., S]: of unit sum, and to first order with the centroids they had."""
    flat, exponent = kernels.flatten(-2), (amounts[..., None, :] @ _statistics(kernels))[..., 0, :]
    tilted: Tensor = _tilted(flat, exponent).view(kernels.shape)
    return tilted


def amounts_between(kernels: Tensor, others: Tensor) -> Tensor:
    """Amounts [N, S] with which kernels [N, K, K] have the means of the statistics that others [N, K, K] have.

    The amounts of largest likelihood, with `TRUST` as the prior.
    """
    light, statistics = kernels.flatten(1), _statistics(kernels)
    wanted = (statistics @ others.flatten(1)[..., None])[..., 0]
    amounts = torch.zeros_like(wanted)
    prior = TRUST * torch.eye(STATISTICS).to(amounts)
    for _ in range(STEPS):
        tilted = _tilted(light, (amounts[:, None] @ statistics)[:, 0])
        mean = (statistics @ tilted[..., None])[..., 0]
        covariance = (statistics * tilted[:, None]) @ statistics.mT - mean[:, :, None] * mean[:, None]
        step = torch.linalg.solve(covariance + prior, (wanted - mean - TRUST * amounts)[..., None])[..., 0]
        amounts = amounts + step.clamp(-1, 1)
    return amounts


def _tilted(light: Tensor, exponent: Tensor) -> Tensor:
    """Of [..., P] each. Only light counts: where the exponent is largest there may be none."""
    exponent = exponent.masked_fill(light <= 0, -torch.inf)
    tilted = light * (exponent - exponent.amax(dim=-1, keepdim=True)).exp()
    return tilted / tilted.sum(dim=-1, keepdim=True)


def _statistics(kernels: Tensor) -> Tensor:
    """[..., S, P] of mean zero over each kernel [..., K, K], and uncorrelated with x and y, so that a tilt moves no centroid."""
    light, apart = kernels.flatten(-2)[..., None, :], _apart(kernels)
    square = apart.square().sum(dim=-2, keepdim=True)
    square = square / (light * square).sum(dim=-1, keepdim=True).clamp_min(TINY)
    found = torch.cat([_far(square), square / (1 + square)], dim=-2)
    found = found - (light * found).sum(dim=-1, keepdim=True)
    weighted = light * apart
    known = weighted @ apart.mT + TINY * torch.eye(2).to(kernels)
    slope = torch.linalg.solve(known, weighted @ found.mT)
    uncorrelated: Tensor = found - slope.mT @ apart
    return uncorrelated


def _apart(kernels: Tensor) -> Tensor:
    """[..., 2, P] places of pixels, along a row and down, from the centroids of kernels [..., K, K] of unit sum."""
    side = kernels.shape[-1]
    axis = torch.arange(side).to(kernels) - (side - 1) / 2
    places = torch.stack([axis.expand(side, side).flatten(), axis[:, None].expand(side, side).flatten()])
    return places - (kernels.flatten(-2)[..., None, :] * places).sum(dim=-1, keepdim=True)


def _square(kernels: Tensor) -> Tensor:
    """[..., P] squared distances in pixels from the centroids."""
    return _apart(kernels).square().sum(dim=-2)


def _far(square: Tensor) -> Tensor:
    return square / (1 + square / FARTHEST)


class LightResiduals(nn.Module):
    """The distribution of the amounts of a model's kernels. Until it is `measured` there is nothing to draw.

    Its W features are what the decoder's last layer is given, and three facts of each colour of the kernel that it decodes, these squared
    and times the squared distance from the field's middle: of the widest kernels more is left. Without these facts RMS radii of a triplet's
    drawn units are 3.36 +- 0.53 px at the corner, with them 3.38 +- 0.56, where traced ones have 3.39 +- 0.54.

    Args:
        hidden: H.
        channels: C.
    """

    measured: Tensor
    centre: Tensor
    scale: Tensor
    mean: Tensor
    log_variance: Tensor
    factor: Tensor
    reach: Tensor

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__()
        features, amounts = hidden + 9 * channels, channels * STATISTICS
        self.register_buffer("measured", torch.zeros(()))
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        for name in ("mean", "log_variance"):
            self.register_buffer(name, torch.zeros(1 + features, amounts))
        self.register_buffer("factor", torch.eye(amounts))
        self.register_buffer("reach", torch.ones(()))

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        """Amounts [..., C, S] for features [..., W], of standard normal noise [..., D]."""
        scaled = self._scaled(features)
        deviation = ((scaled @ self.log_variance).clamp(*LOG_VARIANCES) / 2).exp()
        amounts: Tensor = scaled @ self.mean + deviation * (noise @ self.factor.mT)
        by_colour: Tensor = amounts.unflatten(-1, (-1, STATISTICS))
        return by_colour

    @staticmethod
    def features(hidden: Tensor, kernels: Tensor, places: Tensor) -> Tensor:
        """[..., W] of what the last layer is given [..., H], decoded kernels [..., C, K, K] and their places [..., d]."""
        square, light = _square(kernels), kernels.flatten(-2)
        mean = (light * square).sum(dim=-1)
        far = (light * _far(square / mean[..., None].clamp_min(TINY))).sum(dim=-1)
        facts = torch.cat([mean.clamp_min(TINY).log(), far, light.square().sum(dim=-1).log()], dim=-1)
        out = places[..., :2].square().sum(dim=-1, keepdim=True)
        return torch.cat([hidden, facts, facts.square(), facts * out], dim=-1)

    @torch.no_grad()
    def measure(self, features: Tensor, places: Tensor, amounts: Tensor) -> None:
        """Learn the distribution of amounts [n, T, D] of units at places [n, T, d], given features [n, T, W]. The same bits for the same."""
        rows, flat = features.flatten(0, 1), amounts.flatten(0, 1)
        self.centre, self.scale = rows.mean(dim=0), rows.std(dim=0).clamp_min(1e-3)
        scaled = self._scaled(rows)
        ridge = RIDGE * len(flat) * torch.eye(scaled.shape[1]).to(flat)
        ridge[0, 0] = 0
        self.mean = torch.linalg.solve(scaled.mT @ scaled + ridge, scaled.mT @ flat)
        left = flat - scaled @ self.mean
        self.log_variance = _log_variance(scaled, left)
        standard = left * (-(scaled @ self.log_variance).clamp(*LOG_VARIANCES) / 2).exp()
        some = 1e-6 * torch.eye(flat.shape[1]).to(flat)
        self.factor = torch.linalg.cholesky(standard.mT @ standard / len(standard) + some)
        self.reach = _reach(places, standard.view(amounts.shape)).to(flat)
        self.measured = torch.ones_like(self.measured)

    def _scaled(self, features: Tensor) -> Tensor:
        scaled = (features - self.centre) / self.scale
        return torch.cat([torch.ones_like(scaled[..., :1]), scaled], dim=-1)


def _log_variance(scaled: Tensor, left: Tensor) -> Tensor:
    """[1 + W, D]: by the Gaussian's likelihood, which is concave in them; they are as small as that allows."""
    squared = left.square()
    found = torch.zeros(scaled.shape[1], left.shape[1]).to(left)
    found[0] = squared.mean(dim=0).clamp_min(math.exp(LOG_VARIANCES[0])).log()
    found.requires_grad_()
    optimizer = torch.optim.LBFGS([found], max_iter=60, line_search_fn="strong_wolfe")

    def surprise() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            log = (scaled @ found).clamp(*LOG_VARIANCES)
            value = (log + squared * (-log).exp()).mean(dim=0).sum() + RIDGE * found[1:].square().sum()
            value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    optimizer.step(surprise)
    return found.detach()


def _reach(places: Tensor, standard: Tensor) -> Tensor:
    """Of [n, T, D] of standard deviation 1: the distance at which 1/e of their correlation is left."""
    first, second = torch.triu_indices(places.shape[1], places.shape[1], 1)
    if not len(first):
        return torch.ones(())
    distance = (places[:, first] - places[:, second]).square().sum(dim=-1).sqrt()
    product = (standard[:, first] * standard[:, second]).mean(dim=-1) / standard.square().mean()
    misfits = torch.stack([(product - (-distance / reach).exp()).square().mean() for reach in REACHES.tolist()])
    return REACHES[int(misfits.argmin())]


@dataclass(frozen=True)
class FieldNoise:
    """Standard normal noise of n units, at every place of the field, that correlates as exp(-distance) over it: a sum of waves whose
    frequencies [n, F, d] are those of this correlation (Rahimi & Recht 2007), with weights [n, 2 F, D] of cosines and sines."""

    frequencies: Tensor
    weights: Tensor

    @classmethod
    def draw(cls, units: int, amounts: int, dimension: int, generator: torch.Generator | None) -> FieldNoise:
        normal = torch.randn(units, FREQUENCIES, dimension + 1, generator=generator)
        weights = torch.randn(units, 2 * FREQUENCIES, amounts, generator=generator)
        return cls(normal[..., :-1] / normal[..., -1:].abs().clamp_min(1e-6), weights / FREQUENCIES**0.5)

    def at(self, places: Tensor, units: slice = slice(None)) -> Tensor:
        """[n, M, D] at places [M, d] in units of the reach, of some units."""
        phase = places @ self.frequencies[units].to(places).mT
        return torch.cat([phase.cos(), phase.sin()], dim=-1) @ self.weights[units].to(places)


def measure_residuals(model: AsBuiltCVAE, units: AsBuiltSplit) -> None:
    """Measure what a trained model leaves of the light of `MEASURED_UNITS` of these units at the most."""
    wanted = max(1, round(TARGETS * units.points.shape[1]))
    generator = torch.Generator().manual_seed(named_seed(0, "residuals"))
    device, found = model.mean.device, []
    with evaluating(model), one_thread():
        for start in range(0, min(len(units), MEASURED_UNITS), CHUNK):
            part = units.some(slice(start, min(start + CHUNK, MEASURED_UNITS)))
            for turn in range(TURNS):
                kernels, points = (one.to(device).roll(turn * wanted, dims=1) for one in (part.kernels, part.points))
                seen, at = slice(wanted, wanted + GRID), points[:, :wanted]
                known = model.encode(kernels[:, seen], points[:, seen])
                z = known.sample(torch.randn(known.mu.shape, generator=generator).to(device))
                light, features = model.light(z, at)
                true = kernels[:, :wanted]
                amounts = amounts_between(light.flatten(0, 2), true.flatten(0, 2)).view(*true.shape[:2], -1)
                found.append((features, model.places(at), amounts))
        model.light_residuals.measure(*(torch.cat(one) for one in zip(*found, strict=True)))
