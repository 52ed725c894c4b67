"""The best linear model of units, learned from the same ones as the network: probabilistic PCA of fields of kernels.

    scores at position p of unit u  =  B0(p) m  +  sum over terms t, latents q of  B_t(p) z_uq L_tq  +  noise,    z_u ~ N(0, I)

Scores are those of the kernels' principal components, B products of Legendre polynomials in x, y and, where they vary, the vergences of
depth and focus. What is known of z of some observed kernels is a Gaussian in closed form. The loadings L and the noise are found by
expectation maximisation over units and their mirror images (Tipping & Bishop 1999, with fields in place of vectors), of which the data
enter only by their sums over a unit's positions. It is what kriging with a learned covariance is, too.

Shape legend: U = units, P = positions, R = components, T = terms of the polynomials, L = latents, d = condition dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import count, product
from typing import NamedTuple

import torch
from torch import Tensor

from deeplens_workers.asbuilt_data import OBSERVED
from deeplens_workers.threads import one_thread, seeded
from trainables.asbuilt.data import AsBuiltSplit, AsBuiltTensors, observed
from trainables.asbuilt.evaluation import GIVEN, name_of, unit_errors
from trainables.asbuilt.network import AsBuiltCVAE
from trainables.asbuilt.simplex import clean_kernels
from trainables.learner import Judged
from trainables.networks.mlp import scale_conditions
from trainables.timing import fastest, once

TERMS = (50, 140)
"""The most terms, of which validation units choose; the mean over units has the more. Over x and y they are of degree 8 and 15."""
LATENTS = 32
CAUTION = (1.0, 4.0, 16.0, 64.0)
"""Factors on the noise, of which they choose too: what is left out is no white noise."""
ITERATIONS = 4
"""From their start, near the end; four more change errors by a hundredth."""
MOST_UNITS = 8000
"""Mirror images included: their sums take 1 GB at the most."""
RIDGE = 0.1
SOLVABLE = 1e-6
"""Of the mean sum of squares of a normal equation: float32 sums are exact to a tenth of it."""
KERNELS_PER_TERM = 10
"""At the least, of the mean over units."""
LEAST_NOISE = 1e-4
"""Of a score's variance about the mean: fewer units than latents would leave none."""


@dataclass(frozen=True)
class LinearGaussian:
    """The model. `terms`: the most of them; `ranges`: lowest and highest vergence of each distance that is a condition."""

    terms: int
    ranges: tuple[tuple[float, float], ...]
    mean: Tensor
    """[T0, R]."""
    loadings: Tensor
    """[T, L, R]."""
    noise: Tensor
    """[R] variances."""

    def posterior(self, scores: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [U, L] and covariance [U, L, L] of z given scores [U, n, R] at points [U, n, d]."""
        apart = scores - legendre(points, len(self.mean), self.ranges) @ self.mean
        return _posterior(Sums.of(apart, legendre(points, self.terms, self.ranges)), self.loadings, self.noise)

    def predict(self, z: Tensor, points: Tensor) -> Tensor:
        """Scores [U, M, R] at points [U, M, d]."""
        terms = legendre(points, self.terms, self.ranges)
        of_unit = torch.einsum("umt,uq,tqr->umr", terms, z, self.loadings)
        return legendre(points, len(self.mean), self.ranges) @ self.mean + of_unit


class Sums(NamedTuple):
    """All that the posterior of z needs of a unit's positions."""

    terms: Tensor
    """[U, T, T] sums of B B'."""
    scores: Tensor
    """[U, T, R] sums of B times the scores about their mean."""

    @classmethod
    def of(cls, apart: Tensor, terms: Tensor) -> Sums:
        """Of scores about their mean [U, P, R] and terms [U, P, T]."""
        return cls(terms.mT @ terms, terms.mT @ apart)


def legendre(points: Tensor, terms: int, ranges: tuple[tuple[float, float], ...]) -> Tensor:
    """Products of Legendre polynomials up to the total degree that gives at most so many, [..., T] of points [..., d]."""
    scaled = scale_conditions(points, ranges)
    wide = scaled.shape[-1]
    degree = next(one for one in count() if math.comb(one + 1 + wide, wide) > terms)
    powers = [torch.ones_like(scaled), scaled]
    for order in range(2, degree + 1):
        powers.append(((2 * order - 1) * scaled * powers[-1] - (order - 1) * powers[-2]) / order)
    each = torch.stack(powers).unbind(-1)  # [degree + 1, ...] for each axis
    exponents = [one for one in product(range(degree + 1), repeat=wide) if sum(one) <= degree]
    return torch.stack(
        [math.prod((each[axis][power] for axis, power in enumerate(one)), start=each[0][0]) for one in exponents],
        dim=-1,
    )


def fit(
    scores: Tensor,
    points: Tensor,
    ranges: tuple[tuple[float, float], ...],
    terms: int,
    latents: int = LATENTS,
    iterations: int = ITERATIONS,
) -> LinearGaussian:
    """By expectation maximisation from scores [U, P, R] at points [U, P, d]."""
    kernels = scores.shape[0] * scores.shape[1]
    of_mean = legendre(points, max(1, min(max(TERMS), kernels // KERNELS_PER_TERM)), ranges)
    gram = torch.einsum("upt,ups->ts", of_mean, of_mean).double()
    mean = _solve(gram, torch.einsum("upt,upr->tr", of_mean, scores)).float()
    apart = scores - of_mean @ mean
    sums = Sums.of(apart, legendre(points, terms, ranges))
    square = apart.square().sum(dim=(0, 1))
    least = LEAST_NOISE * square / kernels
    loadings, noise = _start(sums, latents), square / kernels / 2
    for _ in range(iterations):
        z, covariance = _posterior(sums, loadings, noise)
        second = z[:, :, None] * z[:, None] + covariance
        size = loadings.shape[0] * latents
        design = torch.einsum("uts,uqk->tqsk", sums.terms, second).reshape(size, size)
        target = torch.einsum("utr,uq->tqr", sums.scores, z).reshape(size, -1)
        found = _solve(design.double(), target).float()
        loadings = found.view(loadings.shape)
        noise = ((square - (target * found).sum(dim=0)) / kernels).maximum(least)
    return LinearGaussian(terms, ranges, mean, loadings, noise)


def _start(sums: Sums, latents: int) -> Tensor:
    """Loadings of the principal components of each unit's own coefficients, which a ridge keeps small."""
    ridge = RIDGE * torch.eye(sums.terms.shape[-1])
    coefficients = torch.linalg.solve(sums.terms + ridge, sums.scores).flatten(1)
    with seeded(0):
        _, scales, vectors = torch.svd_lowrank(coefficients, min(latents, *coefficients.shape))
    found = torch.zeros(latents, coefficients.shape[1])
    found[: len(scales)] = vectors.mT * scales[:, None] / len(coefficients) ** 0.5
    return found.view(latents, *sums.scores.shape[1:]).transpose(0, 1).contiguous()


def _posterior(sums: Sums, loadings: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    weighted = loadings / noise
    pairs = torch.einsum("tqr,skr->tsqk", weighted, loadings).flatten(0, 1)
    latents = loadings.shape[1]
    precision = (sums.terms.flatten(1) @ pairs.flatten(1)).view(-1, latents, latents) + torch.eye(latents)
    factor = torch.linalg.cholesky(precision.double())
    right = sums.scores.flatten(1) @ weighted.transpose(1, 2).flatten(0, 1)
    mean = torch.cholesky_solve(right[..., None].double(), factor).squeeze(-1)
    return mean.float(), torch.cholesky_inverse(factor).float()


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    """Least squares by normal equations, with what keeps them solvable."""
    found: Tensor = torch.linalg.solve(
        gram + SOLVABLE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype), right.to(gram.dtype)
    )
    return found


def judged(data: AsBuiltTensors, test: AsBuiltSplit, winner: AsBuiltCVAE) -> Judged:
    """Learned now, on one thread, in the winner's components."""
    with one_thread(), torch.no_grad():
        best, training = once(lambda: learned(data, winner))
        found = {name_of(count): errors(best, winner, test, count) for count in OBSERVED}
        few = test.some(slice(1))
        _, seconds = fastest(lambda: predict(best, winner, observed(few, GIVEN), few.held_out.points))
    kept = (best.mean, best.loadings, best.noise, winner.mean, winner.components, winner.weights)
    return Judged(found, sum(one.numel() * one.element_size() for one in kept), seconds, training=training)


def learned(data: AsBuiltTensors, winner: AsBuiltCVAE) -> LinearGaussian:
    """Of units and their mirror images, with what validation units like best of `TERMS` and `CAUTION`."""
    scores, points = _with_images(data, winner.config.components)
    models = [fit(scores, points, tuple(winner.config.diopter_ranges.values()), terms) for terms in TERMS]
    tried = [replace(model, noise=model.noise * factor) for model in models for factor in CAUTION]
    return min(tried, key=lambda one: float(errors(one, winner, data.validation, GIVEN).mean()))


def predict(model: LinearGaussian, winner: AsBuiltCVAE, seen: AsBuiltSplit, at: Tensor) -> Tensor:
    """Kernels [U, M, C, K, K] of observed units at points [U, M, d]."""
    scores = winner.scores(seen.kernels.flatten(0, 1)).unflatten(0, seen.kernels.shape[:2])
    z, _ = model.posterior(scores, seen.points)
    light = winner.mean.float() + model.predict(z, at) @ winner.components.float()
    return clean_kernels(light.unflatten(2, seen.kernels.shape[2:]))


def errors(model: LinearGaussian, winner: AsBuiltCVAE, split: AsBuiltSplit, count: int) -> Tensor:
    """Of each unit [U] of which so many kernels are observed."""
    away = split.held_out
    return unit_errors(predict(model, winner, observed(split, count), away.points), away.kernels)


def _with_images(data: AsBuiltTensors, components: int) -> tuple[Tensor, Tensor]:
    """Scores and points of the train set's units and of as many of their mirror images as there is room for."""
    units = min(data.shape[0], MOST_UNITS)
    scores, points = data.scores[:units, :, :components].cpu(), data.points[:units].cpu()
    count = max(1, min(len(data.mirrors.signs), MOST_UNITS // units))
    images = [torch.full((units,), image) for image in range(count)]
    return (
        torch.cat([data.mirrored(scores, image) for image in images]),
        torch.cat([data.mirrors.turned(points, image) for image in images]),
    )
