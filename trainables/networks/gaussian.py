"""Diagonal Gaussians: posterior and prior of every VAE.

Shape legend: B = batch, L = latent dimension.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Gaussian(NamedTuple):
    """Diagonal Gaussians: `mu` and `logvar`, each [B, L]."""

    mu: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """mu + sigma * noise, [B, L] (Kingma & Welling 2014, the reparametrisation)."""
        return self.mu + (0.5 * self.logvar).exp() * noise


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) of diagonal Gaussians in nats per dimension, [B, L]."""
    difference = q.logvar - p.logvar
    return 0.5 * (difference.exp() + (q.mu - p.mu).square() * (-p.logvar).exp() - 1.0 - difference)
