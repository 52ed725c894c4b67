"""The variational autoencoder (Kingma & Welling 2014): encoder q(z|x), prior N(0, I), decoder and likelihood p(x|z).

Shape legend: B = batch, S = samples of z per image, N = latents, L = latent dimension, P = parameters per channel,
C = channel, H, W = pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainables.learner import Network
from trainables.networks.decoders import DECODERS
from trainables.networks.encoders import ENCODERS
from trainables.networks.gaussian import Gaussian, gaussian_kl
from trainables.training.likelihoods import LIKELIHOODS, LikelihoodOptions


@dataclass(frozen=True)
class VaeConfig:
    """Everything needed to build the network again.

    Args:
        network, likelihood: names of `ENCODERS` and `DECODERS`, and of `LIKELIHOODS`.
        channels, px: of the images [C, px, px].
        base_width: channels of the first level; the networks of convolutions have it.
        hidden_dim: units of the hidden linear layers.
        decoder_variance: of `gaussian_fixed`.
        charbonnier_epsilon: of `charbonnier`, in units of x.
    """

    network: str
    channels: int
    px: int
    latent_dim: int
    base_width: int
    hidden_dim: int
    likelihood: str
    decoder_variance: float = 0.01
    charbonnier_epsilon: float = 1e-3


class VaeTerms(NamedTuple):
    """The loss's terms of a batch, unreduced, in nats and float32.

    `log_likelihood` [B, S] is log p(x|z) per sample and `kl` [B, L] is KL(q(z|x) || p(z)) per dimension, in closed form.
    `log_ratio` [B, S] is log p(z) - log q(z|x) per sample, for importance-weighted bounds; None with one sample.
    """

    log_likelihood: Tensor
    kl: Tensor
    log_ratio: Tensor | None


class VAE(Network):
    """Three parts, `encoder`, `decoder` and `likelihood`, and the fixed prior N(0, I).

    Raises:
        ValueError: the network cannot have images of `px`.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        options = LikelihoodOptions(config.decoder_variance, config.charbonnier_epsilon)
        self.likelihood = LIKELIHOODS[config.likelihood](options)
        self.encoder = ENCODERS[config.network](config)
        self.decoder = DECODERS[config.network](config, self.likelihood.parameters_per_channel * config.channels)

    @property
    def config_dict(self) -> dict[str, Any]:
        """`VaeConfig(**config_dict)` builds the network again, also after a way through JSON."""
        return asdict(self.config)

    def encode(self, x: Tensor) -> Gaussian:
        """Posterior q(z|x) of images [B, C, H, W] in [0, 1]; mu and logvar [B, L]."""
        posterior: Gaussian = self.encoder(x)
        return posterior

    def decode(self, z: Tensor) -> Tensor:
        """The likelihood's parameters of latents [N, L] -> [N, P C, H, W]."""
        raw: Tensor = self.decoder(z)
        return raw

    def reconstruct(self, x: Tensor) -> Tensor:
        """Mean images of decode(mu(x)), [B, C, H, W] -> the same shape, in [0, 1]."""
        return self.generate(self.encode(x).mu)

    def generate(self, z: Tensor) -> Tensor:
        """Mean images of latents, such as draws of the prior: [N, L] -> [N, C, H, W] in [0, 1]."""
        return self.likelihood.mean(self.decode(z))

    def forward(self, x: Tensor, noise: Tensor) -> VaeTerms:
        """The loss's terms.

        Args:
            x: [B, C, H, W] in the likelihood's data space.
            noise: [B, S, L] standard normal, for S samples of the posterior.
        """
        posterior = self.encode(x)
        kl = gaussian_kl(posterior, standard_normal(posterior.mu))
        log_ratio = log_prior_ratio(posterior, noise) if noise.shape[1] > 1 else None
        return VaeTerms(self._log_likelihood(x, posterior, noise), kl, log_ratio)

    def log_weights(self, x: Tensor, noise: Tensor) -> Tensor:
        """log p(x, z) - log q(z|x) of S samples per image, [B, S]; `x` and `noise` as in `forward`."""
        posterior = self.encode(x)
        return self._log_likelihood(x, posterior, noise) + log_prior_ratio(posterior, noise)

    def _log_likelihood(self, x: Tensor, posterior: Gaussian, noise: Tensor) -> Tensor:
        batch, samples, _ = noise.shape
        wide = Gaussian(*(one[:, None] for one in posterior))
        raw = self.decode(wide.sample(noise).flatten(0, 1))
        repeated = x if samples == 1 else x.repeat_interleave(samples, dim=0)
        return self.likelihood.log_prob(raw, repeated).view(batch, samples)


def standard_normal(like: Tensor) -> Gaussian:
    """N(0, I), of the shape of a mean."""
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))


def log_prior_ratio(posterior: Gaussian, noise: Tensor) -> Tensor:
    """log N(z; 0, I) - log q(z|x) at z = mu + sigma * noise; mu, logvar [B, L] and noise [B, S, L] -> [B, S]."""
    wide = Gaussian(*(one[:, None] for one in posterior))
    return 0.5 * (noise.square() - wide.sample(noise).square() + wide.logvar).sum(dim=-1)
