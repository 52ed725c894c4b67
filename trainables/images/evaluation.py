"""Validation metrics of a VAE of images: its score, and what its latent space and its pictures are like.

Shape legend: N = images, L = latent dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spaces.seeding import named_seed
from trainables.images.data import LEVELS, ImageSplit, ImageTensors
from trainables.images.frechet import frechet_distance
from trainables.images.objective import ROWS, Scores, fitted_scale, fixed_noise, in_levels, of_network, scores
from trainables.images.similarity import ms_ssim, psnr
from trainables.networks.gaussian import Gaussian, gaussian_kl
from trainables.networks.vae import VAE, standard_normal
from trainables.training.ssim import ssim

VALIDATION_IMAGES, VALIDATION_SAMPLES = 500, 16
"""Of every report. On 500 images the noise of sampling is 0.06 nats, a fifth of what other images would change."""
TEST_IMAGES, TEST_SAMPLES = 1000, 64
"""Of the finals: eight times the work."""
ACTIVE_VARIANCE = 0.01
"""A latent dimension is active if its posterior mean varies by more over the data (Burda et al. 2016, appendix C)."""
SAMPLE_SEED = 0
"""Of the draws of the prior whose images are compared with held-out ones."""


@torch.no_grad()
def encode(network: VAE, x: Tensor) -> Gaussian:
    """Posteriors of images [N, C, H, W]: mu and logvar [N, L]."""
    parts = [network.encode(chunk) for chunk in x.split(ROWS)]
    return Gaussian(torch.cat([part.mu for part in parts]), torch.cat([part.logvar for part in parts]))


@torch.no_grad()
def generate(network: VAE, z: Tensor) -> Tensor:
    """Mean images [N, C, H, W] of latents [N, L]."""
    return torch.cat([network.generate(chunk) for chunk in z.split(ROWS)])


@dataclass(frozen=True)
class Shown:
    """Held-out images [N, C, H, W] and what decode(mu) makes of them, in [0, 1] both: levels / 255, or chances of a 1."""

    true: Tensor
    decoded: Tensor


@torch.no_grad()
def evaluate(network: VAE, data: ImageTensors) -> dict[str, float]:
    """Every `val/` metric, on the first images of the validation set."""
    split = data.validation.first(VALIDATION_IMAGES)
    posterior = encode(network, split.fixed_pixels(network.likelihood.space))
    model = of_network(network)
    found = scores(model, split, fitted_scale(model, data.calibration), VALIDATION_SAMPLES)
    shown = shown_images(network, split, posterior.mu)
    pictures = {"val/psnr": psnr, "val/ssim": ssim, "val/ms_ssim": ms_ssim}
    return {
        **{f"val/{name}": float(values.mean()) for name, values in errors(found, split).items()},
        "val/elbo": -float(found.judged.nelbo.mean()),
        "val/iwae_gap": float((found.judged.nelbo - found.judged.nll).mean()),
        **({} if found.scale is None else {"val/rmse_levels": found.scale}),
        "val/kl": float(gaussian_kl(posterior, standard_normal(posterior.mu)).sum(dim=1).mean()),
        "val/active_units": float(active_units(posterior.mu).sum()),
        "val/mutual_information": mutual_information(posterior),
        "val/prior_gap": prior_gap(posterior),
        **{name: float(measure(shown.decoded, shown.true).mean()) for name, measure in pictures.items()},
        "val/frechet_pca64": _frechet(network, data, shown.true, posterior.mu.shape[1]),
    }


def errors(found: Scores, split: ImageSplit) -> dict[str, Tensor]:
    """Scores of each image [N] by the name of their metric without prefix."""
    if found.scale is None:
        return {"nll": found.judged.nll}
    own = {} if found.own is None else {"bpd_own": found.own.bits(split.elements)}
    return {"bpd": found.judged.bits(split.elements), **own}


def shown_images(network: VAE, split: ImageSplit, mu: Tensor) -> Shown:
    """Images of a set, and those of their posterior means [N, L]."""
    return shown_as(split, generate(network, mu), network.likelihood.space == "unit")


def shown_as(split: ImageSplit, decoded: Tensor, unit: bool) -> Shown:
    """Images of a set beside mean images; `unit`: the latter are of levels that are spread over [0, 1]."""
    if split.of_bits:
        return Shown(split.fixed_pixels("binary"), decoded)
    top = LEVELS - 1
    return Shown(split.fixed_pixels("levels"), (in_levels(decoded, "unit") / top).clamp(0, 1) if unit else decoded)


def active_units(mu: Tensor) -> Tensor:
    """Which latent dimensions are active, [N, L] -> [L]."""
    return mu.var(dim=0, correction=0) > ACTIVE_VARIANCE


@torch.no_grad()
def mutual_information(posterior: Gaussian) -> float:
    """I(x; z) of the N images and their latents in nats, E KL(q(z|x) || p) - KL(q(z) || p) with q(z) the mean of their posteriors.

    An image is one of N, so it is log N at most (Hoffman & Johnson 2016; Dieng et al. 2019). One fixed sample of each.
    """
    mu, logvar = posterior.mu.double().cpu(), posterior.logvar.double().cpu()
    z = Gaussian(mu, logvar).sample(fixed_noise(len(mu), 1, mu.shape[1])[:, 0].double())
    precision = (-logvar).exp()
    # log q(z_i | x_j) without its constant, which cancels: squares of differences as matrix products.
    squares = z.square() @ precision.T - 2 * z @ (mu * precision).T + (mu.square() * precision).sum(dim=1)
    log_q = -0.5 * (squares + logvar.sum(dim=1))
    return float((log_q.diagonal() - log_q.logsumexp(dim=1)).mean()) + math.log(len(mu))


def prior_gap(posterior: Gaussian) -> float:
    """A lower bound in nats on KL(q(z) || p(z)): how far what the decoder was trained on is from draws of the prior.

    That of the Gaussian with the mean and the variances of q(z): its shape and its correlations come on top.
    """
    mean = posterior.mu.mean(dim=0, keepdim=True)
    variance = posterior.mu.var(dim=0, correction=0, keepdim=True) + posterior.logvar.exp().mean(dim=0, keepdim=True)
    return float(gaussian_kl(Gaussian(mean, variance.log()), standard_normal(mean)).sum())


def _frechet(network: VAE, data: ImageTensors, true: Tensor, latents: int) -> float:
    """Of as many mean images of draws of the prior as there are held-out images."""
    generator = torch.Generator().manual_seed(named_seed(SAMPLE_SEED, "frechet"))
    z = torch.randn(len(true), latents, generator=generator).to(true.device)
    samples = generate(network, z)
    return frechet_distance(data.components.of(samples), data.components.of(true))
