"""Probabilistic PCA inside a network: what a linear VAE says of an image and of a latent, to which the network adds.

It is fixed: its numbers are buffers, kept with the weights. At the start the network adds next to nothing, so the model begins as the best
linear one, and what is learned is what that one misses.

Shape legend: B = batch, N = latents, D = values of an image, L = latent dimension, C = channel, H, W = pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.networks.gaussian import Gaussian


class LinearPath(nn.Module):
    """x = mean + W z + noise of one variance, z ~ N(0, I), for images [C, px, px]. Zero until `set`, or until a state is loaded."""

    mean: Tensor
    directions: Tensor
    eigenvalues: Tensor
    variance: Tensor

    def __init__(self, channels: int, px: int, latent_dim: int) -> None:
        super().__init__()
        self._shape = (channels, px, px)
        elements = channels * px**2
        self.register_buffer("mean", torch.zeros(elements))
        self.register_buffer("directions", torch.zeros(elements, latent_dim))
        self.register_buffer("eigenvalues", torch.ones(latent_dim))
        self.register_buffer("variance", torch.ones(()))

    def set(self, mean: Tensor, directions: Tensor, eigenvalues: Tensor, variance: Tensor) -> None:
        """As `trainables.images.ppca.Ppca` has them. Latents beyond those that it has say nothing."""
        found = len(eigenvalues)
        self.mean.copy_(mean)
        self.directions[:, :found] = directions
        self.eigenvalues.fill_(float(variance))
        self.eigenvalues[:found] = eigenvalues
        self.variance.copy_(variance)

    @property
    def _scales(self) -> Tensor:
        """Lengths of the columns of W, [L]."""
        return (self.eigenvalues - self.variance).clamp_min(0).sqrt()

    def posterior(self, x: Tensor) -> Gaussian:
        """p(z|x) of images [B, C, H, W]: mu and logvar, each [B, L]. In float32, also under autocast."""
        with torch.autocast(x.device.type, enabled=False):
            mu = (x.flatten(1) - self.mean) @ self.directions * (self._scales / self.eigenvalues)
        return Gaussian(mu, (self.variance / self.eigenvalues).log().expand_as(mu))

    def images(self, z: Tensor) -> Tensor:
        """Mean images of latents: [N, L] -> [N, C, H, W]. In float32, also under autocast."""
        with torch.autocast(z.device.type, enabled=False):
            flat: Tensor = self.mean + (z.float() * self._scales) @ self.directions.mT
        images: Tensor = flat.unflatten(1, self._shape)
        return images
