"""The variational autoencoder (Kingma & Welling 2014): encoder q(z|x), prior N(0, I), decoder and likelihood p(x|z).

Shape legend: B = batch, S = samples of z per image, N = latents, L = latent dimension, P = parameters per channel,
C = channel, H, W = pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainables.learner import Network
from trainables.networks.blocks import Upsampling
from trainables.networks.decoders import DECODERS
from trainables.networks.encoders import ENCODERS
from trainables.networks.gaussian import LOGVAR_LIMIT, Gaussian, gaussian_kl, smooth_bound
from trainables.networks.linear_path import LinearPath
from trainables.networks.norms import Norm
from trainables.training.likelihoods import LIKELIHOODS, LikelihoodOptions


@dataclass(frozen=True)
class VaeConfig:
    """Everything needed to build the network again.

    Args:
        network, likelihood: names of `ENCODERS` and `DECODERS`, and of `LIKELIHOODS`.
        channels, px: of the images [C, px, px].
        base_width: of the networks of convolutions, channels at half the resolution, doubled at each further halving;
            `bottleneck` has them at the full resolution.
        hidden_dim: units of the hidden linear layers.
        decoder_variance: of `gaussian_fixed`.
        charbonnier_epsilon: of `charbonnier`, in units of x.
        levels: halvings of `conv`, `resnet` and `bottleneck`.
        norm, upsampling, convs, attention: of `residual`, whose `latent_dim` is a multiple of 64.
        blocks, se_ratio, layerscale: of `bottleneck`.
        ppca: encoder and decoder say what they add to probabilistic PCA (`LinearPath`), whose numbers the builder sets.
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
    levels: int = 2
    norm: Norm = "batch"
    upsampling: Upsampling = "bilinear"
    convs: int = 2
    attention: bool = True
    blocks: int = 2
    se_ratio: int = 4
    layerscale: float = 1e-6
    ppca: bool = False

    @property
    def widths(self) -> list[int]:
        """Channels of `conv` and `resnet` after each halving."""
        return [self.base_width * 2**level for level in range(self.levels)]


class VaeTerms(NamedTuple):
    """The loss's terms of a batch, unreduced and in float32.

    `log_likelihood` [B, S] is log p(x|z) in nats per sample, None without a likelihood; `kl` [B, L] is KL(q(z|x) || p(z)) in
    nats per dimension, in closed form. `log_ratio` [B, S] is log p(z) - log q(z|x) per sample, for importance-weighted bounds; None
    with one sample. `distances` [B S] are those asked for, by name. An image has `elements` values.
    """

    log_likelihood: Tensor | None
    kl: Tensor
    log_ratio: Tensor | None
    distances: dict[str, Tensor]
    elements: int


OUTPUTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
"""Layers, of which a decoder's last one gives its output."""

Compare = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Images and true ones, [N, C, H, W] each, to distances [N] by name."""


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
        self.linear = LinearPath(config.channels, config.px, config.latent_dim) if config.ppca else None
        if self.linear is not None:
            *_, last = (one for one in self.decoder.modules() if isinstance(one, OUTPUTS))
            for parameter in last.parameters():  # the decoder begins with nothing to add
                nn.init.zeros_(parameter)
        # Feature maps then have their channels side by side: steps of `residual` and `bottleneck` take 0.5 to 0.8 of the time on a
        # CPU, decoding half of it; those of the other networks the same.
        self.to(memory_format=torch.channels_last)

    @property
    def config_dict(self) -> dict[str, Any]:
        """`VaeConfig(**config_dict)` builds the network again, also after a way through JSON."""
        return asdict(self.config)

    def encode(self, x: Tensor) -> Gaussian:
        """Posterior q(z|x) of images [B, C, H, W] in [0, 1]; mu and logvar [B, L]."""
        posterior: Gaussian = self.encoder(x)
        if self.linear is None:
            return posterior
        linear = self.linear.posterior(x)
        # In standard deviations of the linear posterior, which are small where a latent says much.
        return Gaussian(
            linear.mu + (linear.logvar / 2).exp() * posterior.mu,
            smooth_bound(linear.logvar + posterior.logvar, -LOGVAR_LIMIT, LOGVAR_LIMIT),
        )

    def decode(self, z: Tensor) -> Tensor:
        """The likelihood's parameters of latents [N, L] -> [N, P C, H, W]."""
        raw: Tensor = self.decoder(z)
        return raw if self.linear is None else self.likelihood.raw_of(self.linear.images(z)) + raw

    def reconstruct(self, x: Tensor) -> Tensor:
        """Mean images of decode(mu(x)), [B, C, H, W] -> the same shape, in [0, 1]."""
        return self.generate(self.encode(x).mu)

    def generate(self, z: Tensor) -> Tensor:
        """Mean images of latents, such as draws of the prior: [N, L] -> [N, C, H, W] in [0, 1]."""
        return self.likelihood.mean(self.decode(z))

    def forward(self, x: Tensor, noise: Tensor, compare: Compare | None = None) -> VaeTerms:
        """The loss's terms.

        Args:
            x: [B, C, H, W] in the likelihood's data space.
            noise: [B, S, L] standard normal, for S samples of the posterior.
            compare: gives the distances of the decoder's images from x, in float32 also under autocast.
        """
        posterior = self.encode(x)
        kl = gaussian_kl(posterior, standard_normal(posterior.mu))
        log_ratio = log_prior_ratio(posterior, noise) if noise.shape[1] > 1 else None
        raw, repeated = self._decoded(x, posterior, noise)
        log_likelihood = None
        if self.likelihood.normalised:
            log_likelihood = self.likelihood.log_prob(raw, repeated).view(noise.shape[:2])
        distances = {}
        if compare is not None:
            with torch.autocast(x.device.type, enabled=False):
                distances = compare(self.likelihood.expectation(raw), repeated)
        return VaeTerms(log_likelihood, kl, log_ratio, distances, x.shape[1:].numel())

    def log_weights(self, x: Tensor, noise: Tensor) -> Tensor:
        """log p(x, z) - log q(z|x) of S samples per image, [B, S]; `x` and `noise` as in `forward`."""
        posterior = self.encode(x)
        raw, repeated = self._decoded(x, posterior, noise)
        log_likelihood = self.likelihood.log_prob(raw, repeated).view(noise.shape[:2])
        return log_likelihood + log_prior_ratio(posterior, noise)

    def _decoded(self, x: Tensor, posterior: Gaussian, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's output for each sample [B S, P C, H, W], and the images [B S, C, H, W] to be held against it."""
        samples = noise.shape[1]
        wide = Gaussian(*(one[:, None] for one in posterior))
        raw = self.decode(wide.sample(noise).flatten(0, 1))
        return raw, x if samples == 1 else x.repeat_interleave(samples, dim=0)


def standard_normal(like: Tensor) -> Gaussian:
    """N(0, I), of the shape of a mean."""
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))


def log_prior_ratio(posterior: Gaussian, noise: Tensor) -> Tensor:
    """log N(z; 0, I) - log q(z|x) at z = mu + sigma * noise; mu, logvar [B, L] and noise [B, S, L] -> [B, S]."""
    wide = Gaussian(*(one[:, None] for one in posterior))
    return 0.5 * (noise.square() - wide.sample(noise).square() + wide.logvar).sum(dim=-1)
