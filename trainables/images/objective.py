"""How probable held-out images are under a model: one definition for every loss, and for pPCA.

Images of 256 levels are scored by what every model of images has: a posterior, and the mean image m(z) of its decoder. A Gaussian
about m(z), with one variance for all pixels, is cut into the 256 levels, its tails in the outer two, so that its masses sum to 1.
The variance is the mean squared error of one posterior sample on training images, fitted anew whenever a model is scored: it is the
best there is for this m. Up to constants the score then is the rate and D/2 log of the squared error, a rate-distortion trade-off
without a weight to choose; a model trained with any loss, a likelihood or none, is scored alike.

All of it at beta = 1 and with fixed noise, whatever a model was trained with: so trials compare.

Shape legend: N = images, B = images of a chunk, K = samples of z per image, L = latent dimension, D = values of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spaces.seeding import named_seed
from trainables.images.data import LEVELS, ImageSplit, Space, nats_of_levels
from trainables.networks.gaussian import Gaussian
from trainables.networks.vae import VAE, log_prior_ratio
from trainables.training.bounds import StreamedIwae

ROWS = 512
"""Images decoded at once: on a CPU their features then stay in its cache."""
NOISE_SEED = 0
LEAST_SCALE = 0.1
"""Of the Gaussian, in levels: narrower ones give every level nearly all of its mass or none."""
TINY = 1e-30
"""Masses below are computed from their logarithms, as float32 has no smaller ones."""


@dataclass(frozen=True)
class LatentModel:
    """What is asked of a model with the prior N(0, I).

    Args:
        space: of the pixels that `encode` takes and `mean` gives.
        encode: x [B, C, H, W] -> q(z|x), mu and logvar [B, L].
        decode: z [N, L] -> parameters of the decoder.
        mean: these parameters -> the mean image [N, C, H, W] in [0, 1].
        log_prob: parameters and x -> log p(x|z) [N] in nats under the model's own likelihood; None if it has none.
    """

    space: Space
    encode: Callable[[Tensor], Gaussian]
    decode: Callable[[Tensor], Tensor]
    mean: Callable[[Tensor], Tensor]
    log_prob: Callable[[Tensor, Tensor], Tensor] | None


def of_network(network: VAE) -> LatentModel:
    """A VAE as it is scored."""
    own = network.likelihood
    log_prob = own.log_prob if own.normalised else None
    return LatentModel(own.space, network.encode, network.decode, own.mean, log_prob)


@dataclass(frozen=True)
class Bounds:
    """Of each image [N], in nats: `nll` is the importance-weighted bound on -log p(x), `nelbo` the negative ELBO."""

    nll: Tensor
    nelbo: Tensor

    def bits(self, elements: int) -> Tensor:
        """`nll` in bits per value of an image of D `elements`."""
        return self.nll / (elements * math.log(2))


@dataclass(frozen=True)
class Scores:
    """`judged` is what models are ranked by; `own` is under the model's own likelihood, which of 0s and 1s is the same.

    `scale` is the standard deviation of the Gaussian in levels, None for images of 0s and 1s.
    """

    judged: Bounds
    own: Bounds | None
    scale: float | None


@torch.no_grad()
def scores(model: LatentModel, split: ImageSplit, scale: float | None, samples: int, rows: int = ROWS) -> Scores:
    """Bounds on -log p of the images of a set: masses of 0s and 1s, or of 256 levels.

    Args:
        scale: the model's own, by `fitted_scale`; None if the images are of 0s and 1s.
        samples: K; the IWAE bound rises with it towards log p(x) (Burda et al. 2016).
        rows: images decoded at once.

    Raises:
        ValueError: the pixels are of another space than the model's.
    """
    x, levels = split.fixed_pixels(model.space), split.images

    def own(raw: Tensor, index: Tensor) -> Tensor:
        assert model.log_prob is not None
        return model.log_prob(raw, x[index])

    if scale is None:
        (found,) = bounds(model, x, [own], samples, rows)
        return Scores(found, found, None)

    def mass(raw: Tensor, index: Tensor) -> Tensor:
        mean = in_levels(model.mean(raw), model.space)
        return log_mass(mean, scale, levels[index].float()).flatten(1).sum(dim=1)

    judged, *owned = bounds(model, x, [mass, own] if model.log_prob is not None else [mass], samples, rows)
    offset = nats_of_levels(model.space, split.elements)
    return Scores(judged, next((Bounds(one.nll + offset, one.nelbo + offset) for one in owned), None), scale)


@torch.no_grad()
def bounds(
    model: LatentModel, x: Tensor, log_probs: Sequence[Callable[[Tensor, Tensor], Tensor]], samples: int, rows: int
) -> list[Bounds]:
    """Bounds of images [N, C, H, W], one for each way to say log p(x|z), all with the same latents, streamed over samples.

    The noise of an image is that of its place, and the same for every model of as many latents.

    Args:
        log_probs: of a decoder's parameters [n, ...] and the numbers [n] of the images that they are for, in nats [n].
    """
    posteriors = [model.encode(chunk) for chunk in x.split(ROWS)]
    posterior = Gaussian(*(torch.cat(parts) for parts in zip(*posteriors, strict=True)))
    noise = fixed_noise(len(x), samples, posterior.mu.shape[1])
    at_once = min(samples, rows)
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in log_probs]
    for index in torch.arange(len(x), device=x.device).split(max(1, rows // at_once)):
        q = Gaussian(posterior.mu[index], posterior.logvar[index])
        streams = [(StreamedIwae(), torch.zeros(len(index), device=x.device)) for _ in log_probs]
        for part in noise[index.cpu()].split(at_once, dim=1):
            of_chunk = part.to(x.device)
            z = Gaussian(*(one[:, None] for one in q)).sample(of_chunk)
            raw, ratio = model.decode(z.flatten(0, 1)), log_prior_ratio(q, of_chunk)
            numbers = index.repeat_interleave(part.shape[1])
            for (bound, total), log_prob in zip(streams, log_probs, strict=True):
                log_weights = log_prob(raw, numbers).view(ratio.shape) + ratio
                bound.add(log_weights)
                total += log_weights.sum(dim=1)
        for kept, (bound, total) in zip(found, streams, strict=True):
            kept.append((-bound.value(), -total / samples))
    return [Bounds(*(torch.cat(parts) for parts in zip(*kept, strict=True))) for kept in found]


def fixed_noise(images: int, samples: int, latent_dim: int) -> Tensor:
    """Standard normal numbers [N, K, L], the same at every call; drawn on the CPU for all devices."""
    generator = torch.Generator().manual_seed(named_seed(NOISE_SEED, "noise"))
    return torch.randn(images, samples, latent_dim, generator=generator)


@torch.no_grad()
def fitted_scale(model: LatentModel, training: ImageSplit) -> float | None:
    """Standard deviation in levels: the root mean squared error of one posterior sample of each image; None of 0s and 1s."""
    if training.of_bits:
        return None
    q = model.encode(training.fixed_pixels(model.space))
    z = q.sample(fixed_noise(len(training), 1, q.mu.shape[1])[:, 0].to(q.mu.device))
    error = in_levels(model.mean(model.decode(z)), model.space) - training.images
    return max(float(error.square().mean(dtype=torch.float64).sqrt()), LEAST_SCALE)


def in_levels(mean: Tensor, space: Space) -> Tensor:
    """Mean images in [0, 1] on the scale of the levels 0 to 255, whose number n is spread over [n, n + 1] / 256 in `unit` images."""
    return LEVELS * mean - 0.5 if space == "unit" else (LEVELS - 1) * mean


def log_mass(mean: Tensor, scale: float, levels: Tensor) -> Tensor:
    """log of the mass that N(mean, scale^2) has within half a level of whole numbers 0 to 255, all beyond these in the outer two.

    Args:
        mean, levels: same shape, float; `scale` in levels.
    """
    first, last = levels <= 0, levels >= LEVELS - 1
    # By symmetry the bin lies above the mean, so the tails that are subtracted are small and keep their digits.
    distance = torch.where(first, mean, torch.where(last, LEVELS - 1 - mean, (levels - mean).abs()))
    near, far = (distance - 0.5) / scale, (distance + 0.5) / scale
    open_ended = first | last
    tail = torch.where(open_ended, 0.0, torch.special.erfc(far / math.sqrt(2)))
    mass = 0.5 * (torch.special.erfc(near / math.sqrt(2)) - tail)
    result: Tensor = mass.clamp_min(TINY).log()
    rare = mass <= TINY
    if rare.any():
        result[rare] = _log_tail(near[rare], far[rare], open_ended[rare])
    return result


def _log_tail(near: Tensor, far: Tensor, open_ended: Tensor) -> Tensor:
    """log(Q(near) - Q(far)) of the upper tail Q of N(0, 1), or log Q(near), at any distance."""
    upper: Tensor = torch.special.log_ndtr(-near)
    lower: Tensor = torch.special.log_ndtr(-far)
    return torch.where(open_ended, upper, upper + torch.log(-torch.expm1(lower - upper)))
