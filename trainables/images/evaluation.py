"""How probable held-out images are under a model, and what its latent space holds.

All of it at beta = 1 and with fixed noise, whatever a model was trained with: so trials compare.

Shape legend: N = images, B = images of a chunk, K = samples of z per image, L = latent dimension, D = values of an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spaces.seeding import named_seed
from trainables.images.data import ImageSplit, nats_of_levels
from trainables.networks.gaussian import Gaussian, gaussian_kl
from trainables.networks.vae import VAE, standard_normal
from trainables.training.bounds import StreamedIwae

VALIDATION_IMAGES, VALIDATION_SAMPLES = 500, 16
"""Of every report. On 500 images the noise of sampling is 0.06 nats, a fifth of what other images would change."""
TEST_IMAGES, TEST_SAMPLES = 1000, 64
"""Of the finals: eight times the work."""
ROWS = 512
"""Images decoded at once: on a CPU their features then stay in its cache."""
NOISE_SEED = 0
ACTIVE_VARIANCE = 0.01
"""A latent dimension is active if its posterior mean varies by more over the data (Burda et al. 2016, appendix C)."""


@dataclass(frozen=True)
class Likelihoods:
    """Bounds of each image [N] in nats: `nll` is the importance-weighted one on -log p(x), `nelbo` the negative ELBO."""

    nll: Tensor
    nelbo: Tensor


@torch.no_grad()
def likelihoods(network: VAE, x: Tensor, samples: int, rows: int = ROWS) -> Likelihoods:
    """Bounds on -log p(x) of images [N, C, H, W] as `ImageSplit.pixels` has them, streamed over samples.

    The noise of an image is that of its place, and the same for every network of as many latents.

    Args:
        samples: K; the IWAE bound rises with it towards log p(x) (Burda et al. 2016).
        rows: images decoded at once.
    """
    noise = fixed_noise(len(x), samples, network.config.latent_dim)
    at_once = min(samples, rows)
    nll, nelbo = [], []
    for chunk, noises in zip(x.split(max(1, rows // at_once)), noise.split(max(1, rows // at_once)), strict=True):
        bound, total = StreamedIwae(), torch.zeros(len(chunk), device=x.device)
        for part in noises.split(at_once, dim=1):
            log_weights = network.log_weights(chunk, part.to(x.device))
            bound.add(log_weights)
            total += log_weights.sum(dim=1)
        nll.append(-bound.value())
        nelbo.append(-total / samples)
    offset = nats_of_levels(network.likelihood.space, x[0].numel())
    return Likelihoods(torch.cat(nll) + offset, torch.cat(nelbo) + offset)


def fixed_noise(images: int, samples: int, latent_dim: int) -> Tensor:
    """Standard normal numbers [N, K, L], the same at every call; drawn on the CPU for all devices."""
    generator = torch.Generator().manual_seed(named_seed(NOISE_SEED, "noise"))
    return torch.randn(images, samples, latent_dim, generator=generator)


@torch.no_grad()
def encode(network: VAE, x: Tensor) -> Gaussian:
    """Posteriors of images [N, C, H, W]: mu and logvar [N, L]."""
    parts = [network.encode(chunk) for chunk in x.split(ROWS)]
    return Gaussian(torch.cat([part.mu for part in parts]), torch.cat([part.logvar for part in parts]))


@torch.no_grad()
def evaluate(network: VAE, split: ImageSplit) -> dict[str, float]:
    """Every `val/` metric, on the first images of a set."""
    shown = split.first(VALIDATION_IMAGES)
    x = shown.fixed_pixels(network.likelihood.space)
    bounds = likelihoods(network, x, VALIDATION_SAMPLES)
    posterior = encode(network, x)
    means = torch.cat([network.generate(chunk) for chunk in posterior.mu.split(ROWS)])
    nll, nelbo = float(bounds.nll.mean()), float(bounds.nelbo.mean())
    return {
        "val/nll": nll,
        "val/bpd": nll / (shown.elements * math.log(2)),
        "val/elbo": -nelbo,
        "val/iwae_gap": nelbo - nll,
        "val/kl": float(gaussian_kl(posterior, standard_normal(posterior.mu)).sum(dim=1).mean()),
        "val/active_units": float(active_units(posterior.mu).sum()),
        "val/psnr": float(psnr(means, x).mean()),
    }


def active_units(mu: Tensor) -> Tensor:
    """Which latent dimensions are active, [N, L] -> [L]."""
    return mu.var(dim=0, correction=0) > ACTIVE_VARIANCE


def psnr(images: Tensor, true: Tensor) -> Tensor:
    """10 log10(1 / MSE) in dB of images [N, C, H, W] in [0, 1], [N]; at most 100 dB."""
    return -10 * (images - true).square().flatten(1).mean(dim=1).clamp_min(1e-10).log10()
