"""A denoising autoencoder (Vincent et al. 2008) of a VAE's own network: what the VAE's pictures lose for having a prior.

Its encoder's mean is decoded, without noise in the latent and without a KL term; noise is in the image that it is given. It has
no prior, so it gives no probability and no samples: it is compared by its reconstructions.

Shape legend: B = batch, C = channel, H, W = pixels.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from deeplens_workers.threads import one_thread
from spaces.seeding import named_seed
from trainables.images.data import Space, TrainingImages
from trainables.images.evaluation import encode, shown_images
from trainables.images.sealed import ImageTest
from trainables.images.similarity import psnr
from trainables.learner import Judged
from trainables.networks.vae import VAE
from trainables.timing import fastest, shares
from trainables.training.ssim import ssim

NOISE = 0.05
"""Standard deviation that is added to values in [0, 1]; of 0s and 1s, the share that is turned over."""
RATE, BATCH, BETAS = 3e-3, 64, (0.9, 0.99)
"""Of Adam. The rate falls to 0 along a line."""
LEAST_STEPS, TIMED_IMAGES = 10, 32
SEED = 0


def denoiser(model: VAE, train: TrainingImages, test: ImageTest, seconds: float) -> Judged:
    """Trained now, on one thread, for about so many seconds, and judged by its reconstructions of the test images, clean as they are.

    Args:
        model: a network with fresh weights, which are trained.
        seconds: of wall-clock time, above 0.
    """
    with one_thread():
        trained = _train(model, train, seconds)
    model.eval()
    x = test.images.fixed_pixels(model.likelihood.space)
    shown = shown_images(model, test.images, encode(model, x).mu)
    with one_thread(), torch.no_grad():
        _, took = fastest(lambda: model.reconstruct(x[:TIMED_IMAGES]))
    size = sum(one.numel() * one.element_size() for one in model.state_dict().values())
    errors = {"psnr": psnr(shown.decoded, shown.true), "ssim": ssim(shown.decoded, shown.true)}
    return Judged(errors, size, took / min(TIMED_IMAGES, len(x)), training=trained)


def _train(model: VAE, train: TrainingImages, seconds: float) -> float:
    """Seconds that it took."""
    began = time.perf_counter()
    generator = torch.Generator().manual_seed(named_seed(SEED, "denoising"))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, betas=BETAS)
    for share in shares(seconds, LEAST_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - share)
        optimizer.zero_grad(set_to_none=True)
        _loss(model, train, generator).backward()
        optimizer.step()
    return time.perf_counter() - began


def _loss(model: VAE, train: TrainingImages, generator: torch.Generator) -> Tensor:
    """-log p of the clean images under what is decoded from the noisy ones, nats per image; without a likelihood, squared errors."""
    space: Space = model.likelihood.space
    places = train.draw(BATCH, generator)
    chance = torch.rand(BATCH, *train.shape, generator=generator) if train.needs_chance(space) else None
    clean = train.pixels(places, space, chance)
    decoded = model.decode(model.encode(noisy(clean, space, generator)).mu)
    if not model.likelihood.normalised:
        return (model.likelihood.expectation(decoded) - clean).square().flatten(1).sum(dim=1).mean()
    return -model.likelihood.log_prob(decoded, clean).mean()


def noisy(x: Tensor, space: Space, generator: torch.Generator) -> Tensor:
    """Images [B, C, H, W] with noise: 0s and 1s of which some are turned over, others with some added."""
    if space == "binary":
        return (x - (torch.rand(x.shape, generator=generator) < NOISE).float()).abs()
    return x + NOISE * torch.randn(x.shape, generator=generator)
