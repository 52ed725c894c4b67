"""Probabilistic PCA (Tipping & Bishop 1999): x = m + W z + noise, z ~ N(0, I), noise ~ N(0, sigma^2 I), fitted in closed form.

The best linear VAE is this model (Lucas et al. 2019), so it is what a VAE's networks have to beat with as many latents.

Shape legend: N = images, D = values of an image, L = latent dimension, K = samples of z.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from deeplens_workers.threads import seeded
from trainables.training.bounds import iwae

LARGE = 1024
"""Values of an image above which principal components are found by random projections."""
ROWS = 32
"""Images scored at once."""
SPARE, PASSES, SEED = 32, 4, 0
"""Of the random projections."""
# Of which the Bernoulli model takes what is best on training images.
LEAST_CHANCES = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2)
WIDTHS = (1.0, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class Ppca:
    """A fitted model.

    `mean` [D]; `directions` [D, L], the first principal axes; `eigenvalues` [L] of the data's covariance along them, in
    falling order; `variance` sigma^2, the mean of the other eigenvalues.
    """

    mean: Tensor
    directions: Tensor
    eigenvalues: Tensor
    variance: Tensor

    @property
    def loadings(self) -> Tensor:
        """W [D, L], of the maximum likelihood that is diagonal in the latents."""
        return self.directions * (self.eigenvalues - self.variance).clamp_min(0).sqrt()

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean, directions, eigenvalues, variance."""
        return self.mean, self.directions, self.eigenvalues, self.variance

    def cut(self, latents: int) -> Ppca:
        """With fewer latents: the others' variance is noise."""
        others = len(self.mean) - len(self.eigenvalues)
        rest = self.eigenvalues[latents:].sum() + others * self.variance
        variance = rest / (len(self.mean) - min(latents, len(self.eigenvalues)))
        return Ppca(self.mean, self.directions[:, :latents], self.eigenvalues[:latents], variance)

    @property
    def numbers(self) -> int:
        """How many numbers must be kept for it."""
        return self.mean.numel() + self.directions.numel() + 1

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [N, L] and standard deviations [L] of p(z|x), which is diagonal: x [N, D]."""
        gain = (self.eigenvalues - self.variance).clamp_min(0).sqrt() / self.eigenvalues
        return (x - self.mean) @ self.directions * gain, (self.variance / self.eigenvalues).sqrt()

    def nll(self, x: Tensor) -> Tensor:
        """-log p(x) of x [N, D] in nats, a density: [N]."""
        centred = x - self.mean
        along = (centred @ self.directions).square()
        rest = centred.square().sum(dim=1) - along.sum(dim=1)
        others = len(self.mean) - len(self.eigenvalues)
        log_determinant = self.eigenvalues.log().sum() + others * self.variance.log()
        distance = (along / self.eigenvalues).sum(dim=1) + rest / self.variance
        return 0.5 * (len(self.mean) * math.log(2 * math.pi) + log_determinant + distance)


def fit(chunks: Iterable[Tensor], latent_dim: int) -> Ppca:
    """Maximum likelihood for images that come as chunks [n, D]: exact of small ones, by random projections of those above `LARGE`."""
    images = list(chunks)
    return (
        fit_ppca(images, latent_dim) if images[0].shape[1] <= LARGE else fit_large_ppca(torch.cat(images), latent_dim)
    )


def fit_ppca(chunks: Iterable[Tensor], latent_dim: int) -> Ppca:
    """Maximum likelihood for images that come as chunks [n, D]; at most D - 1 latents, in float64."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for chunk in chunks:
        values = chunk.double()
        count, total, squares = count + len(values), total + values.sum(dim=0), squares + values.T @ values
    mean = total / count
    eigenvalues, directions = torch.linalg.eigh(squares / count - mean.outer(mean))
    eigenvalues, directions = eigenvalues.flip(0).clamp_min(0), directions.flip(1)
    kept = min(latent_dim, len(mean) - 1)
    variance = eigenvalues[kept:].mean()
    return Ppca(mean, directions[:, :kept], eigenvalues[:kept].maximum(variance), variance)


def fit_large_ppca(x: Tensor, latent_dim: int) -> Ppca:
    """The same for images [N, D] in float32 whose covariance is too large to decompose: by random projections.

    The subspace is found by Halko et al. 2011, algorithm 5.1, with `SPARE` dimensions and `PASSES` power iterations more than
    needed; eigenvalues are the variances along its axes, so the likelihood is at most that of `fit_ppca`. `x` is changed.
    """
    mean = x.mean(dim=0)
    x -= mean
    kept = min(latent_dim, x.shape[1] - 1)
    with seeded(SEED):
        _, scales, directions = torch.svd_lowrank(x, q=min(kept + SPARE, *x.shape), niter=PASSES)
    eigenvalues = scales[:kept].double().square() / len(x)
    total = x.square().sum(dtype=torch.float64) / len(x)
    variance = (total - eigenvalues.sum()) / (x.shape[1] - kept)
    return Ppca(mean.double(), directions[:, :kept].double(), eigenvalues.maximum(variance), variance)


@dataclass(frozen=True)
class BernoulliPpca:
    """The generative model of pPCA for pixels of 0 and 1: z ~ N(0, I), then each pixel 1 with the chance m + W z.

    A Gaussian of pixels that are 0 or 1 is a density whose values say nothing about a mass function. So the linear decoder
    stays, its output is cut to [`least`, 1 - `least`] and taken as a Bernoulli's mean: a proper mass on {0, 1}^D. Its
    log p(x) is bounded as the VAEs' is, by importance-weighted samples, of which the proposal is pPCA's exact posterior with
    its standard deviations times `width`. Both numbers are those that are best on training images: a wider proposal makes
    the bound tighter, as a Bernoulli's variance near 0 and 1 is not the sigma^2 of all pixels.
    """

    ppca: Ppca
    least: float
    width: float

    def nll(self, x: Tensor, noise: Tensor) -> Tensor:
        """Bound on -log p(x) in nats, [N], of x [N, D] of 0s and 1s and standard normal noise [N, K, L]."""
        pairs = zip(x.split(ROWS), noise.split(ROWS), strict=True)
        return torch.cat([self._nll(part, noises.to(x)) for part, noises in pairs])

    def chances(self, z: Tensor) -> Tensor:
        """Of a 1, [..., D], of latents [..., L]."""
        return (self.ppca.mean + z @ self.ppca.loadings.T).clamp_(self.least, 1 - self.least)

    def _nll(self, x: Tensor, noise: Tensor) -> Tensor:
        mean, deviation = self.ppca.posterior(x)
        deviation = deviation * self.width
        z = mean[:, None] + deviation * noise
        chance = self.chances(z)
        log_likelihood = torch.where(x[:, None] > 0.5, chance, 1 - chance).log().sum(dim=-1)
        log_ratio = 0.5 * (noise.square() - z.square()).sum(dim=-1) + deviation.log().sum()
        return -iwae(log_likelihood + log_ratio)


def fit_bernoulli(ppca: Ppca, x: Tensor, noise: Tensor) -> BernoulliPpca:
    """The Bernoulli model that is best on training images [N, D] of 0s and 1s, with noise [N, K, L]."""
    candidates = [BernoulliPpca(ppca, least, width) for least, width in product(LEAST_CHANCES, WIDTHS)]
    return min(candidates, key=lambda one: float(one.nll(x, noise).mean()))


def in_float32(ppca: Ppca) -> Ppca:
    """The model as it would be kept."""
    return Ppca(*(one.float() for one in ppca.parts))
