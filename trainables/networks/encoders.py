"""Encoders of small images: [B, C, H, W] in [0, 1] -> q(z|x), a Gaussian with mu and logvar [B, L].

Shape legend: B = batch, C = channel, H, W = pixels, L = latent dimension, w = base width.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from trainables.networks.blocks import ResidualBlock, downsample, linear
from trainables.networks.bottleneck import bottleneck_encoder
from trainables.networks.gaussian import GaussianHead
from trainables.networks.residual import residual_encoder
from trainables.sizes import check_size

if TYPE_CHECKING:
    from trainables.networks.vae import VaeConfig


def mlp_encoder(config: VaeConfig) -> nn.Sequential:
    """Two hidden layers of `hidden_dim`."""
    hidden = config.hidden_dim
    return nn.Sequential(
        nn.Flatten(),
        linear(config.channels * config.px**2, hidden),
        nn.SiLU(),
        linear(hidden, hidden),
        nn.SiLU(),
        GaussianHead(hidden, config.latent_dim),
    )


def conv_encoder(config: VaeConfig) -> nn.Sequential:
    """`levels` halvings to w, 2w, 4w, ... channels, then a hidden layer of `hidden_dim`."""
    return _halving(config, lambda width: [])


def resnet_encoder(config: VaeConfig) -> nn.Sequential:
    """As `conv_encoder`, with a residual block after each halving."""
    return _halving(config, lambda width: [ResidualBlock(width)])


def _halving(config: VaeConfig, blocks: Callable[[int], list[nn.Module]]) -> nn.Sequential:
    side, parts = check_size(config.px, config.levels), list[nn.Module]()
    for before, width in pairwise([config.channels, *config.widths]):
        parts += [downsample(before, width), *blocks(width), nn.SiLU()]
    return nn.Sequential(
        *parts,
        nn.Flatten(),
        linear(config.widths[-1] * side**2, config.hidden_dim),
        nn.SiLU(),
        GaussianHead(config.hidden_dim, config.latent_dim),
    )


ENCODERS: dict[str, Callable[[VaeConfig], nn.Module]] = {
    "mlp": mlp_encoder,
    "conv": conv_encoder,
    "resnet": resnet_encoder,
    "residual": residual_encoder,
    "bottleneck": bottleneck_encoder,
}
