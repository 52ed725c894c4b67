"""Building blocks of the CVAE: Fourier encoding of the condition, MLPs, Gaussian heads, kernel constraints.

Shape legend: B = batch, C = channel, K = kernel side in pixels, L = latent dimension, d = condition dimension (2 to 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.networks.gaussian import LOGVAR_LIMIT, Gaussian

INITIAL_LOGVAR = -6.0
# Kernel elements that sum to one over some hundred pixels are near 0.01; well predicted ones are 0.0001 off.
INITIAL_DECODER_LOGVAR = -9.0
DECODER_LOGVAR_WAY = 10.0
# 1 / sqrt(E[silu(x)^2]) for x ~ N(0, 1): keeps the variance from layer to layer. PyTorch's default for linear layers
# shrinks it (0.026 against 0.044 relative L2 on a Cooke triplet after 1,800 steps).
SILU_GAIN = 1.677


class FourierEncoding(nn.Module):
    """[c, sin(2^k pi c), cos(2^k pi c)] for k = 0..bands-1: [B, d] -> [B, d (1 + 2 bands)].

    The raw coordinates stay beside the features: sin and cos of pi c alone map the opposite edges of the field, c = -1
    and c = 1, to the same point. A grid of pitch h supports frequencies up to 1 / (2h) cycles per unit; band k has
    2^(k-1), so bands beyond log2(1 / h) alias between grid points (Mildenhall et al. 2020; Tancik et al. 2020).
    """

    def __init__(self, condition_dim: int, bands: int) -> None:
        super().__init__()
        self.bands = bands
        self.dim = condition_dim * (1 + 2 * bands)

    def forward(self, conditions: Tensor) -> Tensor:
        frequencies = math.pi * 2.0 ** torch.arange(self.bands, device=conditions.device)
        angles = (conditions[..., None] * frequencies).flatten(-2)
        return torch.cat([conditions, angles.sin(), angles.cos()], dim=-1)


class MLP(nn.Sequential):
    """`layers` hidden layers of `hidden` units with SiLU, then a linear output: [B, sum(inputs)] -> [B, outputs].

    Args:
        inputs: sizes of the concatenated groups of inputs. Each group's weights start as if it were alone, so that a
            few coordinates beside hundreds of latents or pixels do not start out unheard.
    """

    def __init__(self, inputs: tuple[int, ...], hidden: int, layers: int, outputs: int) -> None:
        widths = [sum(inputs)] + [hidden] * layers
        modules: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            linear = nn.Linear(fan_in, fan_out)
            nn.init.zeros_(linear.bias)
            for group in linear.weight.split(inputs if not modules else fan_in, dim=1):
                nn.init.normal_(group.detach(), std=SILU_GAIN / math.sqrt(group.shape[1]))
            modules += [linear, nn.SiLU()]
        super().__init__(*modules, nn.Linear(hidden, outputs))
        self.used: Tensor | None
        self.register_buffer("used", None)
        """[layers] bool: which hidden layers there are, the first among them; None: all. The others are passed by."""

    def forward(self, input: Tensor) -> Tensor:  # PyTorch's name
        found: Tensor
        if self.used is None:
            found = super().forward(input)
            return found
        hidden = list(self)[:-1]
        for index, (linear, activation) in enumerate(zip(hidden[::2], hidden[1::2], strict=True)):
            output = activation(linear(input))
            input = output if index == 0 else torch.where(self.used[index], output, input)
        found = self.head(input)
        return found

    @property
    def head(self) -> nn.Linear:
        """The output layer."""
        head = self[-1]
        assert isinstance(head, nn.Linear)
        return head


class GaussianMLP(nn.Module):
    """MLP whose output is a diagonal Gaussian: [B, sum(inputs)] -> mu, logvar, each [B, L].

    The head starts near a constant, mu = 0 and sigma = e^-3, so that training begins at KL(q || p) close to 0 and not at
    the distance between two random networks. With a learned prior the latent's unit is free: a small sigma lets the
    decoder see the condition before it has learned to ignore the noise (on a Cooke triplet, 0.09 against 0.20 relative
    L2 after 200 steps).
    """

    def __init__(self, inputs: tuple[int, ...], hidden: int, layers: int, latent_dim: int) -> None:
        super().__init__()
        self.mlp = MLP(inputs, hidden, layers, 2 * latent_dim)
        nn.init.normal_(self.mlp.head.weight, std=1e-3)
        nn.init.zeros_(self.mlp.head.bias)
        nn.init.constant_(self.mlp.head.bias.detach()[latent_dim:], INITIAL_LOGVAR)

    def forward(self, inputs: Tensor) -> Gaussian:
        # Under autocast the output is bfloat16, too coarse for the exponentials that follow.
        mu, logvar = self.mlp(inputs).to(inputs.dtype).chunk(2, dim=-1)
        return Gaussian(mu, logvar.clamp(-LOGVAR_LIMIT, LOGVAR_LIMIT))


class LearnedVariance(nn.Module):
    """Log of a Gaussian decoder's variance per kernel element, one number for all (sigma-VAE, Rybkin et al. 2021).

    It starts at the variance of kernels that are not predicted at all and has ten nats to go, in steps of a learning rate: the
    parameter is a fraction of that way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fraction = nn.Parameter(torch.zeros(()))

    def forward(self) -> Tensor:
        return INITIAL_DECODER_LOGVAR - DECODER_LOGVAR_WAY * self.fraction


def constrain(raw: Tensor) -> Tensor:
    """Non-negative kernels of unit sum per channel: softplus, then K / sum(K); [B, C, K, K] -> [B, C, K, K]."""
    positive = F.softplus(raw)
    return positive / (positive.sum(dim=(-2, -1), keepdim=True) + 1e-8)


def diopters(distance_mm: Tensor) -> Tensor:
    """Vergence in 1/m of object distances in mm (negative: in front of the lens). Defocus is linear in it."""
    return 1000.0 / distance_mm.abs()


def scale_conditions(points: Tensor, diopter_ranges: Sequence[tuple[float, float]]) -> Tensor:
    """Field points in physical units -> conditions in [-1, 1].

    Args:
        points: [B, d], normalised x, y, then object distances in mm, negative.
        diopter_ranges: lowest and highest vergence of each of these, mapped to -1 and 1.
    """
    # Numbers and no tensor of them, which a GPU would wait for in every step.
    distances = points[..., 2:].unbind(-1)
    scaled = [
        2 * (diopters(distance) - low) / (high - low) - 1
        for distance, (low, high) in zip(distances, diopter_ranges, strict=True)
    ]
    return torch.stack([*points[..., :2].unbind(-1), *scaled], dim=-1)
